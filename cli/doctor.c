/* SPDX-License-Identifier: MIT */
/*
 * `faultlane doctor`: reports what works on this machine, and the remedy for what does not.
 *
 * Every line results from trying or reading; kernel versions are never compared.
 */
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/plan.h"
#include "measure/line.h"
#include "measure/machine.h"

#include "baselines/probe.h"
#include "measure/error.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

enum state {
	STATE_OK,
	STATE_NOTE,    /* the engine runs with restrictions */
	STATE_MISSING, /* the engine cannot run */
};

static const char *const state_names[] = { "ok", "note", "missing" };

struct doctor {
	bool as_json;
	struct cli_json json;
	bool engine_can_run;
	bool privileged; /* this user may handle kernel-mode faults (of KVM) */
};

/*
 * Print one line of the report.  @remedy may be NULL, and is left out with STATE_OK.
 * STATE_MISSING also records that the engine cannot run.
 */
static void say(struct doctor *d, enum state state, const char *name, const char *remedy,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void say(struct doctor *d, enum state state, const char *name, const char *remedy,
		const char *fmt, ...)
{
	char value[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	if (state == STATE_MISSING)
		d->engine_can_run = false;
	if (!d->as_json) {
		(void)printf("  %-8s %-26s %s\n", state_names[state], name, value);
		if (remedy && state != STATE_OK)
			(void)printf("  %-8s %-26s remedy: %s\n", "", "", remedy);
		return;
	}
	cli_json_open(&d->json, NULL, '{');
	cli_json_string(&d->json, "name", name);
	cli_json_string(&d->json, "state", state_names[state]);
	cli_json_string(&d->json, "value", value);
	if (remedy && state != STATE_OK)
		cli_json_string(&d->json, "remedy", remedy);
	cli_json_close(&d->json, '}');
}

static void heading(const struct doctor *d, const char *text)
{
	if (!d->as_json)
		(void)printf("\n%s\n", text);
}

static const char *device_remedy(int err)
{
	if (err == ENOENT)
		return "use Linux 6.1 or newer, or the system call instead";
	if (err == ENODEV || err == ENXIO)
		return "as root: mknod /dev/userfaultfd c 10 MINOR, with the minor number from /proc/misc";
	return "as root: setfacl -m u:USER:rw /dev/userfaultfd, or give a group access";
}

static void check_access(struct doctor *d)
{
	struct fln_probe_access a;
	const char *syscall_remedy =
		"one of: access to /dev/userfaultfd, CAP_SYS_PTRACE, sysctl vm.unprivileged_userfaultfd=1";

	fln_probe_access(&a);
	heading(d, "access to userfaultfd");
	d->privileged = a.device == 0 || a.syscall == 0;
	say(d, a.device ? STATE_NOTE : STATE_OK, "/dev/userfaultfd", device_remedy(a.device), "%s",
	    a.device == ENODEV || a.device == ENXIO ? "is a device node with the wrong number"
	    : a.device                              ? strerror(a.device)
						    : "accessible (since Linux 6.1)");
	say(d, a.syscall ? STATE_NOTE : STATE_OK, "system call", syscall_remedy, "%s",
	    a.syscall ? strerror(a.syscall) : "permitted for all faults (since Linux 4.3)");
	say(d, a.syscall_user_mode ? STATE_NOTE : STATE_OK, "system call, user mode",
	    "permit userfaultfd(2) in the seccomp filter or container profile", "%s",
	    a.syscall_user_mode ? strerror(a.syscall_user_mode)
				: "permitted for user-mode faults (since Linux 5.11)");
	if (d->privileged)
		say(d, STATE_OK, "faults of KVM", NULL, "can be handled");
	else if (a.syscall_user_mode == 0 || a.device_user_mode == 0)
		say(d, STATE_NOTE, "faults of KVM", syscall_remedy,
		    "cannot be handled: the engine works for user-mode faults only");
	else
		say(d, STATE_MISSING, "userfaultfd",
		    a.syscall_user_mode == ENOSYS
			    ? "use Linux 5.14 or newer with CONFIG_USERFAULTFD=y; in a container, check its seccomp profile"
			    : syscall_remedy,
		    "available neither from the device nor by the system call");
}

static void check_features(struct doctor *d)
{
	struct fln_probe_feature features[FLN_PROBE_MAX_FEATURES];
	uint32_t nr;
	uint64_t touch_ns = 0;
	int rc;

	heading(d, "features of the kernel's userfaultfd");
	rc = fln_probe_features(!d->privileged, features, &nr);
	for (uint32_t i = 0; i < nr; i++) {
		const struct fln_probe_feature *f = &features[i];
		enum state state = f->needed ? STATE_MISSING : STATE_NOTE;
		char remedy[128];

		(void)snprintf(remedy, sizeof(remedy), "Linux %s or newer%s", f->first_kernel,
			       f->needed ? "" : ", if you need it");
		say(d, f->present ? STATE_OK : state, f->name,
		    rc ? "first get access to userfaultfd" : remedy, "%s (since Linux %s)",
		    f->purpose, f->first_kernel);
	}
	if (rc)
		return;
	rc = fln_probe_fault(!d->privileged, &touch_ns);
	if (rc)
		say(d, STATE_MISSING, "test fault", "report this with the lines above", "%s",
		    fln_last_error());
	else
		say(d, STATE_OK, "test fault", NULL, "resolved in %.1f us", (double)touch_ns / 1e3);
}

/* Features of fln_query_features() that no other section reports. */
static void check_engine(struct doctor *d)
{
	static const struct {
		uint64_t bit;
		const char *name, *value, *remedy;
	} features[] = {
		{ FLN_FEATURE_IN_CONTEXT, "in-context regions",
		  "threads can resolve their own faults",
		  "use a kernel whose userfaultfd supports SIGBUS (4.14)" },
		{ FLN_FEATURE_HUGE, "images of huge pages",
		  "supported; reserve pages with vm.nr_hugepages",
		  "use a kernel with hugetlb and its minor faults (5.13)" },
		{ FLN_FEATURE_COLLAPSE, "collapse to large pages", "MADV_COLLAPSE works on shmem",
		  "use Linux 6.1 or newer with transparent huge pages of shmem" },
		{ FLN_FEATURE_PIN, "pinning workers", "permitted",
		  "permit sched_setaffinity() in the seccomp filter" },
		{ FLN_FEATURE_NICE, "priority of workers", "nice -20 is permitted",
		  "grant CAP_SYS_NICE, or set ulimit -e 40" },
	};
	uint64_t bits = 0;

	heading(d, "features of the engine");
	if (fln_query_features(d->privileged ? 0 : FLN_ENGINE_F_USER_MODE_ONLY, &bits) != 0)
		say(d, STATE_NOTE, "features", NULL, "%s", fln_last_error());
	for (uint32_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		say(d, bits & features[i].bit ? STATE_OK : STATE_NOTE, features[i].name,
		    features[i].remedy, "%s",
		    bits & features[i].bit ? features[i].value : "unavailable");
}

/* Count the entries of a list such as "0-3,8". */
static uint32_t count_list(const char *path)
{
	char line[256];
	char *at = line;
	uint32_t nr = 0;

	if (!measure_read_line(path, "", line, sizeof(line)))
		return 0;
	while (*at >= '0' && *at <= '9') {
		unsigned long lo = strtoul(at, &at, 10);
		unsigned long hi = *at == '-' ? strtoul(at + 1, &at, 10) : lo;

		nr += hi >= lo ? (uint32_t)(hi - lo + 1) : 0;
		at += *at == ',';
	}
	return nr;
}

#define THP "/sys/kernel/mm/transparent_hugepage/"

/* The word in brackets of a setting's file. */
static bool read_choice(const char *path, char *word, size_t size)
{
	char line[128];
	char *chosen = NULL, *end = NULL;

	if (measure_read_line(path, "", line, sizeof(line)))
		chosen = strchr(line, '[');
	if (chosen)
		end = strchr(chosen, ']');
	if (!chosen || !end)
		return false;
	*end = '\0';
	(void)snprintf(word, size, "%s", chosen + 1);
	return true;
}

/*
 * What the kernel gives images that are filled: large folios need permission.  The setting for 2 MiB
 * decides where there is one (Linux 6.11); the general one holds for "inherit", and "deny" and
 * "force" always.
 */
static void check_large_folios(struct doctor *d)
{
	static const char what[] = "large folios of images";
	char general[32], own[32];
	const char *file = "shmem_enabled", *chosen = general;
	char remedy[192];
	bool permitted;

	if (!read_choice(THP "shmem_enabled", general, sizeof(general))) {
		say(d, STATE_NOTE, what, "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
		    "not supported by the kernel: filling a page costs two to three times as much");
		return;
	}
	if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1) {
		say(d, STATE_NOTE, what, "start it where prctl(PR_SET_THP_DISABLE) is not set",
		    "disabled for this process: filling a page costs two to three times as much");
		return;
	}
	if (strcmp(general, "deny") != 0 && strcmp(general, "force") != 0 &&
	    read_choice(THP "hugepages-2048kB/shmem_enabled", own, sizeof(own)) &&
	    strcmp(own, "inherit") != 0) {
		file = "hugepages-2048kB/shmem_enabled";
		chosen = own;
	}
	(void)snprintf(remedy, sizeof(remedy),
		       "as root: echo advise > " THP "%s; only memory that asks for large folios "
		       "gets them then, as images do",
		       file);
	permitted = strcmp(chosen, "never") != 0 && strcmp(chosen, "deny") != 0;
	say(d, permitted ? STATE_OK : STATE_NOTE, what, remedy,
	    permitted ? "%s is %s: permitted"
		      : "%s is %s: images have pages of 4 KiB, and filling one costs two to three "
			"times as much",
	    file, chosen);
}

static void check_machine(struct doctor *d)
{
	uint64_t bytes = 0;
	uint32_t nr_nodes = count_list("/sys/devices/system/node/online");
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const char *why = kvm >= 0 ? "accessible" : strerror(errno);

	heading(d, "the machine");
	say(d, STATE_OK, "processors", NULL, "%u that this process may use", measure_nr_cpus());
	say(d, STATE_OK, "NUMA nodes", NULL, "%u", nr_nodes ? nr_nodes : 1);
	if (measure_memory_available(&bytes))
		say(d, STATE_OK, "memory available", NULL,
		    "%" PRIu64 " MiB for this process; images (shmem) use it", bytes >> 20);
	check_large_folios(d);
	say(d, kvm >= 0 ? STATE_OK : STATE_NOTE, "/dev/kvm",
	    "for KVM guests: load the kvm module, or join the group that owns /dev/kvm", "%s", why);
	if (kvm >= 0)
		(void)close(kvm);
}

static void check_limits(struct doctor *d)
{
	struct rlimit limit;
	uint64_t maps = 0;

	heading(d, "limits");
	if (measure_read_number("/proc/sys/vm/max_map_count", &maps))
		say(d, maps < 65530 ? STATE_NOTE : STATE_OK, "vm.max_map_count",
		    "sysctl vm.max_map_count=1048576",
		    "%" PRIu64 "; a quarter of them is for stripes: enough for %" PRIu64
		    " GiB in stripes of 2 MiB; for more memory, stripes are larger",
		    maps, maps / 4 * 2 / 1024);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		say(d, limit.rlim_cur < 1024 ? STATE_NOTE : STATE_OK, "RLIMIT_NOFILE",
		    "ulimit -n 4096", "%llu descriptors; each shard needs one",
		    (unsigned long long)limit.rlim_cur);
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		say(d, STATE_NOTE, "RLIMIT_FSIZE", "ulimit -f unlimited",
		    "%llu MiB; images cannot be longer",
		    (unsigned long long)(limit.rlim_cur >> 20));
	if (getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		say(d, limit.rlim_cur < 512 ? STATE_NOTE : STATE_OK, "RLIMIT_NPROC",
		    "ulimit -u 4096", "%llu threads of this user",
		    (unsigned long long)limit.rlim_cur);
}

static int conclude(struct doctor *d)
{
	if (d->as_json) {
		cli_json_close(&d->json, ']');
		cli_json_bool(&d->json, "engine_can_run", d->engine_can_run);
		cli_json_bool(&d->json, "kvm_guests_can_run", d->engine_can_run && d->privileged);
		cli_json_close(&d->json, '}');
		(void)fputc('\n', stdout);
	} else if (!d->engine_can_run) {
		(void)puts("\nThe engine cannot run here; see the lines marked missing.");
	} else if (d->privileged) {
		(void)puts("\nThe engine can run here, for all faults.");
	} else {
		(void)puts("\nThe engine can run here for user-mode faults only; KVM guests need "
			   "the remedy above.");
	}
	return d->engine_can_run ? CLI_OK : CLI_FAILED;
}

int cli_doctor(int argc, char **argv)
{
	struct doctor d = { .json = { .to = stdout }, .engine_can_run = true };
	struct utsname name;

	if (cli_plan_wanted(argc, argv))
		return cli_plan(argc, argv);
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		(void)puts(
			"usage: faultlane doctor [--json]\n"
			"       faultlane doctor --plan [OPTIONS]\n\n"
			"Tests what the engine needs, and names the remedy for what is missing.\n"
			"With --plan: shows where workers would run; see --plan --help.\n"
			"Exit status: 0 when the engine can run, 1 when it cannot.");
		return CLI_OK;
	}
	d.as_json = argc == 2 && strcmp(argv[1], "--json") == 0;
	if (argc > 1 && !d.as_json) {
		measure_error("unknown option '%s'; 'faultlane doctor' takes --json or --plan",
			      argv[1]);
		return CLI_USAGE;
	}
	if (uname(&name) != 0)
		memset(&name, 0, sizeof(name));
	if (d.as_json) {
		cli_json_open(&d.json, NULL, '{');
		cli_json_string(&d.json, "kernel", name.release);
		cli_json_string(&d.json, "machine", name.machine);
		cli_json_open(&d.json, "checks", '[');
	} else {
		(void)printf("%s %s, %s\n", name.sysname, name.release, name.machine);
	}
	check_access(&d);
	check_features(&d);
	check_engine(&d);
	check_machine(&d);
	check_limits(&d);
	return conclude(&d);
}
