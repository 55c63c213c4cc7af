/* SPDX-License-Identifier: MIT */
/* vcpu/: what a guest reaches and what not, how functions end, what a monitor may do meanwhile. */
#include "harness.h"
#include "vcpu_guest.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define NR 16u

static struct vcpu_vm *vm;
static uint64_t *memory;
static uint64_t flag;

#define VOK(call) CHECK((call) == 0, "%s", vcpu_last_error())

static void *map_pages(uint64_t nr)
{
	void *p = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED, "mmap of %llu pages", (unsigned long long)nr);
	return p;
}

static uint64_t run(uint32_t index, vcpu_fn fn, void *arg)
{
	uint64_t result = 0;

	VOK(vcpu_run(vcpu_vm_vcpu(vm, index), fn, arg, &result));
	return result;
}

static void expect_end(uint32_t index, vcpu_fn fn, void *arg, int want, const char *word)
{
	int rc = vcpu_run(vcpu_vm_vcpu(vm, index), fn, arg, NULL);

	CHECK(rc == want && strstr(vcpu_last_error(), word), "returned %d: %s", rc,
	      vcpu_last_error());
}

static void begin(uint32_t nr)
{
	VOK(vcpu_vm_create(nr, 0, &vm));
	memory = map_pages(4);
	VOK(vcpu_vm_map(vm, memory, 4 * PAGE, true));
}

static void end(void)
{
	vcpu_vm_destroy(vm);
	(void)munmap(memory, 4 * PAGE);
}

static void number_and_sum(void *arg, uint32_t index)
{
	struct guest_words *all = arg, mine = all[index];
	static struct guest_words in_data[NR];

	/* The host's stack is not the guest's: what it is given lies in the program's data. */
	in_data[index] = mine;
	for (uint32_t i = 0; i < 20; i++) {
		CHECK(run(index, guest_number, &in_data[index]) == mine.nr, "vCPU %u", index);
		CHECK(run(index, guest_sum, &in_data[index]) ==
			      mine.nr * mine.first + mine.nr * (mine.nr - 1) / 2,
		      "vCPU %u reads what it did not write", index);
	}
}

static void many_write_and_read(void)
{
	struct guest_words all[NR];
	uint64_t *shared = map_pages((uint64_t)NR * 64);
	struct crew crew;

	begin(NR);
	VOK(vcpu_vm_map(vm, shared, (uint64_t)NR * 64 * PAGE, true));
	for (uint32_t i = 0; i < NR; i++)
		all[i] = (struct guest_words){ shared + (uint64_t)i * 64 * 512, 64, i * 1000 + 1 };
	crew_start(&crew, NR, number_and_sum, all);
	crew_wait(&crew, 60, "vCPUs to write and read");
	for (uint32_t i = 0; i < NR * 64; i++)
		CHECK(shared[(uint64_t)i * 512] == i / 64 * 1000 + 1 + i % 64, "page %u", i);
	end();
	(void)munmap(shared, (uint64_t)NR * 64 * PAGE);
}

static void data_and_stack(void)
{
	begin(2);
	CHECK(run(0, guest_data, NULL) == 17 && guest_constant_sum == 17, "constants and data");
	CHECK(run(1, guest_data, NULL) == 34, "another vCPU sees the same data");
	CHECK(run(0, guest_deep, (void *)(uintptr_t)200) == 200, "a stack of some KiB");
	/* One that runs over its stack is stopped, and nobody else notices. */
	expect_end(0, guest_deep, (void *)(uintptr_t)1000000, -EIO, "exception");
	expect_end(0, guest_deep, NULL, -EIO, "an earlier run");
	CHECK(run(1, guest_deep, (void *)(uintptr_t)200) == 200, "the other vCPU's stack");
	end();
}

static void reaches_what_is_mapped(void)
{
	uint64_t *other = map_pages(1000);

	begin(4);
	CHECK(vcpu_vm_map(vm, (char *)memory + 8, PAGE, true) == -EINVAL, "unaligned");
	CHECK(vcpu_vm_map(vm, memory, 0, true) == -EINVAL, "empty");
	CHECK(vcpu_vm_map(vm, memory + 512, PAGE, true) == -EEXIST, "overlaps");
	CHECK(vcpu_vm_unmap(vm, memory + 512) == -ENOENT, "not a beginning");
	expect_end(0, guest_peek, other, -EIO, "exception");

	/* Larger than 2 MiB, at an odd place, read only. */
	other[999 * 512] = 23;
	VOK(vcpu_vm_map(vm, other, 1000 * PAGE, false));
	CHECK(run(1, guest_peek, other + 999 * 512) == 23, "the last page");
	expect_end(1, guest_poke, other, -EIO, "exception");
	CHECK(other[0] == 0, "a page that is read only was written");

	/* Gone, and there again: somebody else's slot and place. */
	for (uint32_t i = 0; i < 50; i++) {
		VOK(vcpu_vm_unmap(vm, other));
		VOK(vcpu_vm_map(vm, other + 512, 900 * PAGE, true));
		other[700 * 512] = i;
		CHECK(run(2, guest_peek, other + 700 * 512) == i, "round %u", i);
		VOK(vcpu_vm_unmap(vm, other + 512));
		VOK(vcpu_vm_map(vm, other, 1000 * PAGE, true));
		CHECK(run(2, guest_peek, other + 999 * 512) == 23, "round %u", i);
	}
	VOK(vcpu_vm_unmap(vm, other));
	expect_end(2, guest_peek, other, -EIO, "");
	CHECK(run(3, guest_poke, memory) == 0 && memory[0] == 1, "what stays mapped");
	end();
	(void)munmap(other, 1000 * PAGE);
}

static void *wait_main(void *unused)
{
	(void)unused;
	return (void *)(uintptr_t)run(0, guest_wait, &flag);
}

static _Atomic uint32_t nr_signals;

static void on_signal(int signo)
{
	(void)signo;
	atomic_fetch_add(&nr_signals, 1);
}

/* Signals are handled on the vCPU's thread, and its function goes on. */
static void signals_do_not_end_it(void)
{
	struct sigaction act = { .sa_handler = on_signal };
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;
	pthread_t thread;
	void *result;

	begin(1);
	(void)sigaction(SIGUSR1, &act, NULL);
	__atomic_store_n(&flag, 0, __ATOMIC_RELEASE);
	CHECK(pthread_create(&thread, NULL, wait_main, NULL) == 0, "no thread");
	for (uint32_t sent = 0; atomic_load(&nr_signals) < 50; sent++) {
		CHECK(now_ns() < until, "of %u signals %u were handled", sent,
		      atomic_load(&nr_signals));
		(void)pthread_kill(thread, SIGUSR1);
		sleep_ms(1);
	}
	__atomic_store_n(&flag, 91, __ATOMIC_RELEASE);
	CHECK(pthread_join(thread, &result) == 0, "join");
	CHECK((uintptr_t)result == 91, "the guest saw %llu", (unsigned long long)(uintptr_t)result);
	end();
}

/* What the clock says in the guest lies between what it says outside. */
static void one_clock(void)
{
	static struct vcpu_clock clock;

	begin(2);
	vcpu_clock_init(&clock);
	for (uint32_t i = 0; i < 20 && vcpu_vm_tsc_is_host(vm); i++) {
		uint64_t before = vcpu_clock_ns(&clock), guest = run(i % 2, guest_time, &clock);

		CHECK(before <= guest && guest <= vcpu_clock_ns(&clock), "in round %u", i);
	}
	end();
}

/* As a monitor lives with poison: a page that its source cannot give. */
static int64_t fail_third_page(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	(void)ctx;
	if (offset_bytes <= 2 * PAGE && offset_bytes + len_bytes > 2 * PAGE)
		return -EIO;
	memset(buf, 0x11, len_bytes);
	return (int64_t)len_bytes;
}

static void serves_and_poisons(void)
{
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "third",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = fail_third_page };
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct fln_guest_opts guest_opts = FLN_GUEST_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_engine *engine;
	struct fln_region *region;
	struct fln_guest *guest;
	char *at;

	if (test_engine_flags() & FLN_ENGINE_F_USER_MODE_ONLY) {
		test_note("left out: userfaultfds for user mode only do not serve KVM");
		return;
	}
	OK(fln_engine_create(&engine_opts, &engine));
	OK(fln_engine_start(engine));
	OK(fln_source_create(&ops, NULL, &image_opts.source));
	image_opts.len_bytes = region_opts.len_bytes = BLOCK;
	OK(fln_image_create(engine, &image_opts, &region_opts.image));
	guest_opts.flags = FLN_GUEST_F_KVM;
	OK(fln_guest_create(engine, &guest_opts, &guest));
	OK(fln_region_add(guest, &region_opts, &region));
	OK(fln_guest_start(guest));
	at = fln_region_addr(region);

	begin(1);
	VOK(vcpu_sigbus_install());
	VOK(vcpu_vm_map(vm, at, BLOCK, true));
	CHECK(run(0, guest_peek, at) == UINT64_C(0x1111111111111111), "a page of the source's");
	for (uint32_t i = 0; i < 3; i++) {
		int rc = vcpu_run(vcpu_vm_vcpu(vm, 0), guest_peek, at + 2 * PAGE, NULL);
		uint64_t where = vcpu_fault_addr(vcpu_vm_vcpu(vm, 0));

		CHECK(rc == -EHWPOISON || rc == -EFAULT, "a page that has failed: %d", rc);
		CHECK(rc == -EFAULT || where == (uintptr_t)at + 2 * PAGE, "at 0x%llx",
		      (unsigned long long)where);
		CHECK(run(0, guest_peek, at + (i + 3) * PAGE) == UINT64_C(0x1111111111111111),
		      "the vCPU goes on");
	}
	VOK(vcpu_vm_unmap(vm, at));
	end();
	OK(fln_guest_destroy(guest));
	OK(fln_image_destroy(region_opts.image));
	fln_source_destroy(image_opts.source);
	OK(fln_engine_destroy(engine));
}

/* As many as the largest machines have. */
static void hundreds(void)
{
	uint32_t nr = test_scale(64, 256, 700);

	begin(nr);
	for (uint32_t i = 0; i < nr; i++)
		CHECK(run(i, guest_deep, (void *)(uintptr_t)3) == 3, "vCPU %u", i);
	end();
}

static uint64_t address_space_bytes(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	CHECK(f && fscanf(f, "%llu", &pages) == 1, "/proc/self/statm");
	(void)fclose(f);
	return pages * PAGE;
}

/* What could not be made closes what it has, and nothing else: 0 is standard input. */
static void without_memory(void)
{
	struct rlimit before, limit;
	struct vcpu_vm *none;
	struct stat in, now;
	int rc;

	CHECK(fstat(0, &in) == 0, "standard input: %s", strerror(errno));
	OK(getrlimit(RLIMIT_AS, &before));
	limit = before;
	limit.rlim_cur = address_space_bytes() + 8 * 1024 * 1024;
	OK(setrlimit(RLIMIT_AS, &limit));
	rc = vcpu_vm_create(700, 0, &none); /* 44 MiB of stacks */
	OK(setrlimit(RLIMIT_AS, &before));
	CHECK(rc == -ENOMEM, "returned %d", rc);
	CHECK(fstat(0, &now) == 0 && now.st_ino == in.st_ino, "standard input was closed");
}

int main(void)
{
	test_init();
	if (vcpu_unavailable())
		test_skip("%s", vcpu_last_error());
	RUN(many_write_and_read);
	RUN(data_and_stack);
	RUN(reaches_what_is_mapped);
	RUN(signals_do_not_end_it);
	RUN(one_clock);
	RUN(serves_and_poisons);
	RUN(hundreds);
	RUN(without_memory);
	return 0;
}
