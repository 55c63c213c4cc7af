/* SPDX-License-Identifier: MIT */
/*
 * The system calls that threads make inside the library, as docs/EMBEDDING.md lists
 * them, in the same order: cmake/check-readme compares.
 */
#ifndef FLN_TESTS_SECCOMP_CALLS_H
#define FLN_TESTS_SECCOMP_CALLS_H

#include <sys/syscall.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* clang-format off */

#define WORKER_CALLS(CALL) \
	CALL(ioctl) \
	CALL(read) \
	CALL(pread64) \
	CALL(openat) \
	CALL(newfstatat) \
	CALL(brk) \
	CALL(preadv2) \
	CALL(fcntl) \
	CALL(epoll_pwait2) \
	CALL(epoll_wait) \
	CALL(epoll_ctl) \
	CALL(epoll_create1) \
	CALL(fcntl) \
	CALL(close) \
	CALL(write) \
	CALL(sendmsg) \
	CALL(shutdown) \
	CALL(futex) \
	CALL(lseek) \
	CALL(fallocate) \
	CALL(process_vm_writev) \
	CALL(getpid) \
	CALL(mprotect) \
	CALL(mmap) \
	CALL(clock_nanosleep) \
	CALL(membarrier) \
	CALL(poll) \
	CALL(clock_gettime) \
	CALL(sched_getaffinity) \
	CALL(sched_setaffinity) \
	CALL(getpriority) \
	CALL(setpriority) \
	CALL(gettid) \
	CALL(prctl) \
	CALL(set_robust_list) \
	CALL(rseq) \
	CALL(rt_sigprocmask) \
	CALL(rt_sigpending) \
	CALL(madvise) \
	CALL(munmap) \
	CALL(exit)

#define FILLER_CALLS(CALL) \
	CALL(pread64) \
	CALL(preadv2) \
	CALL(pwrite64) \
	CALL(cachestat) \
	CALL(mincore) \
	CALL(newfstatat) \
	CALL(fstatfs) \
	CALL(lseek) \
	CALL(fallocate) \
	CALL(process_vm_writev) \
	CALL(getpid) \
	CALL(prlimit64) \
	CALL(openat) \
	CALL(fcntl) \
	CALL(newfstatat) \
	CALL(read) \
	CALL(close) \
	CALL(mmap) \
	CALL(brk) \
	CALL(write) \
	CALL(futex) \
	CALL(sched_yield) \
	CALL(clock_nanosleep) \
	CALL(clock_gettime) \
	CALL(membarrier) \
	CALL(poll) \
	CALL(sched_getaffinity) \
	CALL(sched_setaffinity) \
	CALL(getpriority) \
	CALL(setpriority) \
	CALL(gettid) \
	CALL(prctl) \
	CALL(set_robust_list) \
	CALL(rseq) \
	CALL(rt_sigprocmask) \
	CALL(rt_sigpending) \
	CALL(madvise) \
	CALL(munmap) \
	CALL(exit)

#define LINK_CALLS(CALL) \
	CALL(recvmsg) \
	CALL(recvfrom) \
	CALL(sendmsg) \
	CALL(getsockopt) \
	CALL(shutdown) \
	CALL(poll) \
	CALL(clock_nanosleep) \
	CALL(eventfd2) \
	CALL(read) \
	CALL(write) \
	CALL(futex) \
	CALL(membarrier) \
	CALL(lseek) \
	CALL(prctl) \
	CALL(set_robust_list) \
	CALL(rseq) \
	CALL(rt_sigprocmask) \
	CALL(rt_sigpending) \
	CALL(madvise) \
	CALL(munmap) \
	CALL(exit)

#define CALLER_CALLS(CALL) \
	CALL(openat) \
	CALL(close) \
	CALL(fcntl) \
	CALL(newfstatat) \
	CALL(fstatfs) \
	CALL(getdents64) \
	CALL(faccessat2) \
	CALL(geteuid) \
	CALL(readlink) \
	CALL(pread64) \
	CALL(userfaultfd) \
	CALL(memfd_create) \
	CALL(ftruncate) \
	CALL(fallocate) \
	CALL(epoll_create1) \
	CALL(eventfd2) \
	CALL(epoll_ctl) \
	CALL(mmap) \
	CALL(munmap) \
	CALL(mprotect) \
	CALL(brk) \
	CALL(mlock) \
	CALL(mlock2) \
	CALL(munlock) \
	CALL(msync) \
	CALL(prlimit64) \
	CALL(mbind) \
	CALL(get_mempolicy) \
	CALL(clone3) \
	CALL(clone) \
	CALL(sched_getaffinity) \
	CALL(sched_setaffinity) \
	CALL(getpid) \
	CALL(uname) \
	CALL(sysinfo) \
	CALL(rt_sigaction) \
	CALL(rt_sigreturn)

/* clang-format on */

#endif
