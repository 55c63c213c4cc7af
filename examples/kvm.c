/* SPDX-License-Identifier: MIT */
/*
 * The smallest embedder with real vCPUs: a KVM guest whose memory is filled from a file
 * while it runs.
 *
 * The virtual machine is that of vcpu/, which runs functions of this program instead of an
 * operating system.  A monitor has to do the same for faultlane: give the region's address
 * to KVM as a memory slot, handle SIGBUS on its vCPU threads, and delete the slot before it
 * removes the region.
 */
#include "kvm_guest.h"
#include "vcpu/vcpu.h"

#include <faultlane/faultlane.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define NR_PAGES 4096u
#define NR_VCPUS 4u
#define EXIT_SKIPPED 77

/* Static, because the guest can access the program's data. */
static struct share shares[NR_VCPUS];
static struct vcpu_vm *vm;

/* The thread of one vCPU.  A failed page ends the virtual machine. */
static void *vcpu_main(void *arg)
{
	struct share *s = arg;
	uint64_t nr_wrong = 0;
	int rc = vcpu_run(vcpu_vm_vcpu(vm, (uint32_t)s->first), guest_count_wrong, s, &nr_wrong);

	if (rc == -EHWPOISON)
		(void)fprintf(stderr, "memory error at guest address 0x%" PRIx64 "\n",
			      vcpu_fault_addr(vcpu_vm_vcpu(vm, (uint32_t)s->first)));
	else if (rc)
		(void)fprintf(stderr, "vCPU %" PRIu64 ": %s\n", s->first, vcpu_last_error());
	else if (nr_wrong)
		(void)fprintf(stderr, "vCPU %" PRIu64 ": %" PRIu64 " pages are wrong\n", s->first,
			      nr_wrong);
	return rc || nr_wrong ? arg : NULL;
}

static int run_vcpus(const uint64_t *memory)
{
	pthread_t threads[NR_VCPUS];
	uint32_t nr = 0, nr_bad = 0;

	for (; nr < NR_VCPUS; nr++) {
		shares[nr] = (struct share){ memory, nr, NR_VCPUS, NR_PAGES };
		if (pthread_create(&threads[nr], NULL, vcpu_main, &shares[nr]) != 0)
			break;
	}
	for (uint32_t i = 0; i < nr; i++) {
		void *bad = NULL;

		(void)pthread_join(threads[i], &bad);
		nr_bad += bad != NULL;
	}
	(void)printf("%u vCPUs read %u pages\n", nr, NR_PAGES);
	return nr == NR_VCPUS && nr_bad == 0 ? 0 : -EIO;
}

static int run_machine(struct fln_region *region)
{
	int rc = vcpu_sigbus_install();

	if (rc == 0)
		rc = vcpu_vm_create(NR_VCPUS, 0, &vm);
	if (rc == 0)
		rc = vcpu_vm_map(vm, fln_region_addr(region), NR_PAGES * PAGE_BYTES, true);
	if (rc == 0)
		rc = run_vcpus(fln_region_addr(region));
	else
		(void)fprintf(stderr, "%s\n", vcpu_last_error());
	vcpu_vm_destroy(vm); /* before the region: nothing touches it any more */
	return rc;
}

static int serve(const char *path, uint64_t len_bytes)
{
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct fln_guest_opts guest_opts = FLN_GUEST_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_engine *engine = NULL;
	struct fln_guest *guest = NULL;
	struct fln_region *region;
	int rc;

	/* No flags: the faults of vCPUs are the kernel's, which needs privilege. */
	rc = fln_engine_create(&engine_opts, &engine);
	if (rc == 0)
		rc = fln_engine_start(engine);
	if (rc == 0)
		rc = fln_source_open_file(path, 0, &image_opts.source);
	image_opts.len_bytes = region_opts.len_bytes = len_bytes;
	if (rc == 0)
		rc = fln_image_create(engine, &image_opts, &region_opts.image);
	guest_opts.flags = FLN_GUEST_F_KVM;
	guest_opts.nr_vcpus = NR_VCPUS;
	if (rc == 0)
		rc = fln_guest_create(engine, &guest_opts, &guest);
	if (rc == 0)
		rc = fln_region_add(guest, &region_opts, &region);
	if (rc == 0)
		rc = fln_guest_start(guest);
	if (rc == 0)
		rc = run_machine(region);
	else
		(void)fprintf(stderr, "%s\n", fln_last_error());

	(void)fln_guest_destroy(guest);
	(void)fln_image_destroy(region_opts.image);
	fln_source_destroy(image_opts.source);
	(void)fln_engine_destroy(engine);
	return rc;
}

/* Each page begins with its number plus one, so that a wrong page is detected. */
static int make_image(char *path)
{
	uint64_t page[PAGE_BYTES / sizeof(uint64_t)] = { 0 };
	int fd = mkstemp(path), rc = fd < 0 ? -errno : 0;

	for (uint32_t i = 0; i < NR_PAGES && rc == 0; i++) {
		page[0] = i + 1;
		if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page))
			rc = -EIO;
	}
	if (fd >= 0)
		(void)close(fd);
	return rc;
}

int main(void)
{
	char path[] = "/tmp/faultlane-kvm-XXXXXX";
	int rc;

	if (vcpu_unavailable()) {
		(void)printf("SKIP: %s\n", vcpu_last_error());
		return EXIT_SKIPPED;
	}
	rc = make_image(path);
	if (rc) {
		(void)fprintf(stderr, "%s: %s\n", path, strerror(-rc));
		return 1;
	}
	rc = serve(path, (uint64_t)NR_PAGES * PAGE_BYTES);
	(void)unlink(path);
	if (rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EOPNOTSUPP) {
		(void)printf("SKIP: %s\n", strerror(-rc));
		return EXIT_SKIPPED;
	}
	return rc ? 1 : 0;
}
