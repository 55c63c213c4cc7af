/* SPDX-License-Identifier: MIT */
/*
 * Statistics as text, read by strict parsers; and what the machine is said to have.
 */
#include "tests/integration/harness.h"

#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

/* Names as embedders have them; the last is cut in the middle of a character. */
static const char *const names[] = {
	"plain",
	"a \"quoted\\\n\tname\x01",
	"1234567890123456789012345678901\xc3\xa4",
	"\xff\xc0\x80 \xe2\x82\xac",
};

#define NR_GUESTS (sizeof(names) / sizeof(names[0]))

/* JSON: value after value, no more than the standard permits. */

struct json {
	const char *at;
	char key[64];
	uint64_t nr_numbers;
};

#define JSON_CHECK(j, cond) CHECK(cond, "JSON at: %.40s", (j)->at)

static void json_value(struct json *j, const char *path);

static void json_utf8(struct json *j)
{
	const unsigned char *s = (const unsigned char *)j->at;
	uint32_t nr = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	JSON_CHECK(j, s[0] >= 0x20 && (s[0] < 0x80 || s[0] >= 0xc2) && s[0] < 0xf5);
	for (uint32_t i = 1; i < nr; i++)
		JSON_CHECK(j, (s[i] & 0xc0) == 0x80);
	j->at += nr;
}

static void json_string(struct json *j, char *out, size_t room)
{
	size_t nr = 0;

	JSON_CHECK(j, *j->at == '"');
	j->at++;
	while (*j->at != '"') {
		const char *from = j->at;

		if (*j->at == '\\') {
			JSON_CHECK(j, strchr("\"\\/bfnrtu", j->at[1]) && j->at[1]);
			if (j->at[1] == 'u') {
				for (uint32_t i = 2; i < 6; i++)
					JSON_CHECK(j, isxdigit((unsigned char)j->at[i]));
				j->at += 4;
			}
			j->at += 2;
		} else {
			json_utf8(j);
		}
		for (; from < j->at && nr + 1 < room; from++)
			out[nr++] = *from;
	}
	out[nr] = '\0';
	j->at++;
}

static void json_list(struct json *j, const char *path, char end)
{
	char key[64], sub[160];

	j->at++;
	if (*j->at == end) {
		j->at++;
		return;
	}
	for (;;) {
		(void)snprintf(sub, sizeof(sub), "%s[]", path);
		if (end == '}') {
			json_string(j, key, sizeof(key));
			JSON_CHECK(j, *j->at == ':');
			j->at++;
			(void)snprintf(sub, sizeof(sub), "%s.%s", path, key);
		}
		json_value(j, sub);
		if (*j->at == end)
			break;
		JSON_CHECK(j, *j->at == ',');
		j->at++;
	}
	j->at++;
}

/* What is found on the way, of one document at a time. */
static struct {
	uint64_t faults, resumed, map_bytes, no_memory, service_count, service_buckets, p50;
	char guest[128];
} found;

static void json_number(struct json *j, const char *path)
{
	uint64_t value;
	char *end;

	JSON_CHECK(j, isdigit((unsigned char)*j->at));
	JSON_CHECK(j, *j->at != '0' || !isdigit((unsigned char)j->at[1]));
	value = strtoull(j->at, &end, 10);
	j->at = end;
	j->nr_numbers++;
	if (strcmp(path, ".faults") == 0)
		found.faults = value;
	else if (strcmp(path, ".resumed") == 0)
		found.resumed = value;
	else if (strcmp(path, ".map_bytes") == 0)
		found.map_bytes = value;
	else if (strcmp(path, ".service_ns.count") == 0)
		found.service_count = value;
	else if (strcmp(path, ".service_ns.p50") == 0)
		found.p50 = value;
	else if (strcmp(path, ".service_ns.buckets[][]") == 0 && j->nr_numbers % 2 == 0)
		found.service_buckets += value;
}

static void json_value(struct json *j, const char *path)
{
	char text[128];

	if (strcmp(path, ".service_ns.buckets") == 0)
		j->nr_numbers = 0; /* pairs: every second is a count */
	if (*j->at == '{') {
		json_list(j, path, '}');
	} else if (*j->at == '[') {
		json_list(j, path, ']');
	} else if (*j->at == '"') {
		json_string(j, text, sizeof(text));
		if (strcmp(path, ".guest") == 0)
			(void)snprintf(found.guest, sizeof(found.guest), "%s", text);
	} else {
		json_number(j, path);
	}
}

static void check_json(struct fln_guest *guest, const char *escaped)
{
	struct fln_stats stats = FLN_STATS_INIT;
	struct json j = { .nr_numbers = 0 };
	static char buf[65536], part[65536];
	int64_t len = fln_guest_stats_json(guest, buf, sizeof(buf));

	CHECK(len > 0 && (size_t)len < sizeof(buf) && strlen(buf) == (size_t)len,
	      "length %lld of %zu", (long long)len, strlen(buf));
	memset(&found, 0, sizeof(found));
	j.at = buf;
	json_value(&j, "");
	CHECK(*j.at == '\0', "after the value: %s", j.at);
	OK(fln_guest_stats(guest, &stats));
	CHECK(strcmp(found.guest, escaped) == 0, "the name is %s and not %s", found.guest, escaped);
	CHECK(found.faults == stats.faults && found.resumed == stats.resumed &&
		      found.map_bytes == stats.map_bytes,
	      "values: %s", buf);
	CHECK(found.service_count == stats.service.count &&
		      found.service_buckets == stats.service.count &&
		      found.p50 == fln_histogram_quantile(&stats.service, 0.5),
	      "histogram: %s", buf);
	/* As snprintf(): any room will do, and what is there is the beginning. */
	for (size_t room = 0; room <= (size_t)len + 2; room += room < 600 ? 1 : 97) {
		memset(part, 'x', sizeof(part));
		CHECK(fln_guest_stats_json(guest, room ? part : NULL, room) == len, "room %zu",
		      room);
		if (room == 0)
			continue;
		CHECK(part[room] == 'x', "room %zu: written beyond it", room);
		CHECK(strlen(part) == (room <= (size_t)len ? room - 1 : (size_t)len) &&
			      memcmp(part, buf, strlen(part)) == 0,
		      "room %zu: %s", room, part);
	}
}

/* Prometheus' text format. */

struct family {
	char name[96], type[16];
	uint32_t nr_samples;
	char last_series[256];
	double last_le;
	uint64_t last_bucket, inf;
};

static bool is_name(const char *s, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		if (!isalpha((unsigned char)s[i]) && s[i] != '_' && s[i] != ':' &&
		    (i == 0 || !isdigit((unsigned char)s[i])))
			return false;
	}
	return nr > 0;
}

/* {name="value",…}: returns what follows; the value of le, or -1. */
static const char *labels(const char *at, double *le)
{
	*le = -1;
	if (*at != '{')
		return at;
	do {
		const char *name = ++at, *value;
		struct json utf8;

		at += strcspn(at, "=\n");
		CHECK(*at == '=' && is_name(name, (size_t)(at - name)), "label: %s", name);
		CHECK(at[1] == '"', "label without quotes: %s", name);
		value = at + 2;
		for (at = value; *at != '"';) {
			CHECK(*at != '\n' && *at, "a label's value ends in nothing: %s", name);
			if (*at == '\\') {
				CHECK(at[1] == '\\' || at[1] == '"' || at[1] == 'n', "escape: %s",
				      at);
				at += 2;
			} else if ((unsigned char)*at >= 0x80) {
				utf8.at = at;
				json_utf8(&utf8);
				at = utf8.at;
			} else {
				at++;
			}
		}
		if (strncmp(name, "le=", 3) == 0)
			*le = strncmp(value, "+Inf", 4) == 0 ? 1e300 : strtod(value, NULL);
		at++;
	} while (*at == ',');
	CHECK(*at == '}', "labels end in: %s", at);
	return at + 1;
}

static void check_bucket(struct family *f, const char *line, double le, uint64_t value)
{
	const char *comma = strstr(line, ",le=");
	size_t nr = comma ? (size_t)(comma - line) : 0;

	CHECK(le >= 0 && nr > 0 && nr < sizeof(f->last_series), "a bucket without le: %s", line);
	if (strncmp(f->last_series, line, nr) != 0 || f->last_series[nr]) {
		memcpy(f->last_series, line, nr);
		f->last_series[nr] = '\0';
		f->last_le = 0;
		f->last_bucket = 0;
	}
	CHECK(le > f->last_le && value >= f->last_bucket, "buckets are not in order: %s", line);
	f->last_le = le;
	f->last_bucket = value;
	if (le >= 1e300)
		f->inf = value;
}

static void check_sample(struct family *f, const char *line)
{
	size_t nr = strcspn(line, "{ \n"), base = strlen(f->name);
	const char *at, *suffix = line + base;
	uint64_t value;
	char *end;
	double le;

	CHECK(is_name(line, nr) && strncmp(line, f->name, base) == 0 && nr >= base,
	      "a sample outside its family %s: %s", f->name, line);
	at = labels(line + nr, &le);
	CHECK(*at == ' ', "no space before the value: %s", line);
	value = strtoull(at + 1, &end, 10);
	CHECK(end > at + 1, "no value: %s", line);
	f->nr_samples++;
	if (strcmp(f->type, "histogram") == 0) {
		if (strncmp(suffix, "_bucket", 7) == 0)
			check_bucket(f, line, le, value);
		else if (strncmp(suffix, "_count", 6) == 0)
			CHECK(value == f->inf, "count %llu, +Inf %llu", (unsigned long long)value,
			      (unsigned long long)f->inf);
		else
			CHECK(strncmp(suffix, "_sum{", 5) == 0 && *end == '.', "sample: %s", line);
		return;
	}
	if (*end == '.' && strcmp(f->name + base - 8, "_seconds") == 0)
		end += 1 + strspn(end + 1, "0123456789");
	CHECK(nr == base && *end == '\n', "sample: %s", line);
	CHECK(strcmp(f->type, "counter") != 0 || strcmp(f->name + base - 6, "_total") == 0,
	      "a counter whose name does not say so: %s", f->name);
}

static bool has_line(const char *text, const char *start)
{
	const char *at = strstr(text, start);

	return at && (at == text || at[-1] == '\n');
}

/* Every line of it; returns how many families there are. */
static uint32_t check_prometheus(const char *text)
{
	static char seen[128][96];
	struct family f = { .name = "" };
	uint32_t nr = 0;

	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		CHECK(strchr(line, '\n'), "the last line does not end: %s", line);
		if (strncmp(line, "# HELP ", 7) == 0) {
			memset(&f, 0, sizeof(f));
			CHECK(sscanf(line, "# HELP %95[a-z_0-9] %*[^\n]", f.name) == 1, "HELP: %s",
			      line);
			for (uint32_t i = 0; i < nr; i++)
				CHECK(strcmp(seen[i], f.name) != 0, "%s comes twice", f.name);
			CHECK(nr < 128, "too many families");
			(void)strcpy(seen[nr++], f.name);
		} else if (line[0] == '#') {
			char name[96];

			CHECK(sscanf(line, "# TYPE %95[a-z_0-9] %15[a-z]", name, f.type) == 2 &&
				      strcmp(name, f.name) == 0 && f.nr_samples == 0,
			      "TYPE: %.80s", line);
			CHECK(strcmp(f.type, "counter") == 0 || strcmp(f.type, "gauge") == 0 ||
				      strcmp(f.type, "histogram") == 0,
			      "type %s", f.type);
		} else {
			CHECK(f.type[0], "a sample before its type: %.80s", line);
			check_sample(&f, line);
		}
	}
	return nr;
}

static void text_of_guests(void)
{
	static char text[262144], part[262144];
	struct fln_guest *guests[NR_GUESTS];
	char want[128];
	struct fln_stats stats = FLN_STATS_INIT;
	int64_t len;
	struct bed b;

	bed_init(&b, 3000);
	b.guest_opts.name = names[0];
	bed_up(&b);
	for (uint32_t i = 1; i < NR_GUESTS; i++) {
		b.guest_opts.name = names[i];
		OK(fln_guest_create(b.engine, &b.guest_opts, &guests[i]));
	}
	read_all(&b, 16);
	OK(fln_guest_stop(b.guest));
	/* From here on nothing moves: with a region, map_bytes would, after grace periods. */
	OK(fln_region_remove(b.region));
	check_json(b.guest, "plain");
	check_json(guests[1], "a \\\"quoted\\\\\\u000a\\u0009name\\u0001");
	check_json(guests[2], "1234567890123456789012345678901");
	check_json(guests[3], "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xe2\x82\xac");

	len = fln_engine_stats_prometheus(b.engine, text, sizeof(text));
	CHECK(len > 0 && (size_t)len < sizeof(text) && strlen(text) == (size_t)len, "%lld",
	      (long long)len);
	CHECK(check_prometheus(text) >= 25, "families are missing");
	OK(fln_guest_stats(b.guest, &stats));
	(void)snprintf(want, sizeof(want),
		       "faultlane_faults_total{guest=\"plain\",id=\"1\"} %llu\n",
		       (unsigned long long)stats.faults);
	CHECK(has_line(text, want), "there is no %s", want);
	(void)snprintf(want, sizeof(want),
		       "faultlane_service_seconds_count{guest=\"plain\",id=\"1\"} %llu\n",
		       (unsigned long long)stats.service.count);
	CHECK(has_line(text, want), "there is no %s", want);
	(void)snprintf(want, sizeof(want),
		       "faultlane_service_seconds_sum{guest=\"plain\",id=\"1\"} %llu.%09llu\n",
		       (unsigned long long)(stats.service.sum_ns / 1000000000),
		       (unsigned long long)(stats.service.sum_ns % 1000000000));
	CHECK(has_line(text, want), "there is no %s", want);
	CHECK(has_line(text, "faultlane_guests 4\n"), "four guests");
	CHECK(has_line(text, "faultlane_node_workers{node=\""), "no nodes");
	for (size_t room = 0; room <= (size_t)len + 2; room += room < 100 ? 1 : 1009) {
		memset(part, 'x', sizeof(part));
		CHECK(fln_engine_stats_prometheus(b.engine, room ? part : NULL, room) == len,
		      "room %zu", room);
		CHECK(room == 0 || (part[room] == 'x' && strlen(part) < room &&
				    memcmp(part, text, strlen(part)) == 0),
		      "room %zu", room);
	}
	CHECK(fln_guest_stats_json(NULL, text, 1) == -EINVAL, "NULL");
	CHECK(fln_guest_stats_json(b.guest, NULL, 1) == -EINVAL, "NULL");
	CHECK(fln_engine_stats_prometheus(b.engine, NULL, 1) == -EINVAL, "NULL");
	CHECK(fln_engine_stats_prometheus(NULL, text, 1) == -EINVAL, "NULL");
	for (uint32_t i = 1; i < NR_GUESTS; i++)
		OK(fln_guest_destroy(guests[i]));
	bed_down(&b);
}

static void without_guests(void)
{
	static char text[65536];
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	struct fln_engine *engine;

	o.flags = test_engine_flags();
	OK(fln_engine_create(&o, &engine));
	CHECK(fln_engine_stats_prometheus(engine, text, sizeof(text)) > 0, "%s", fln_last_error());
	(void)check_prometheus(text);
	OK(fln_engine_destroy(engine));
}

/* What is said to be there is there: the engine that was asked about can be made. */
static void features(void)
{
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	uint64_t bits = 0, less = 0, before;
	struct fln_engine *engine;
	int rc;

	REFUSED(fln_query_features(UINT64_C(1) << 40, &bits), -EINVAL, "flags");
	REFUSED(fln_query_features(0, NULL), -EINVAL, "NULL");
	before = count_fds();
	OK(fln_query_features(test_engine_flags(), &bits));
	CHECK(bits & FLN_FEATURE_QUEUED, "the engine runs here, and that is not said");
	OK(fln_query_features(FLN_ENGINE_F_USER_MODE_ONLY | FLN_ENGINE_F_NO_PIN, &less));
	CHECK(!(less & (FLN_FEATURE_PIN | FLN_FEATURE_KERNEL_MODE)), "bits 0x%llx",
	      (unsigned long long)less);
	CHECK(count_fds() == before, "descriptors are left over");
	/* All faults, asked without permission: the answer is what creating would say. */
	OK(fln_query_features(0, &bits));
	rc = fln_engine_create(&o, &engine);
	CHECK((rc == 0) == !!(bits & FLN_FEATURE_QUEUED) &&
		      (rc == 0) == !!(bits & FLN_FEATURE_KERNEL_MODE),
	      "bits 0x%llx, creating returns %d", (unsigned long long)bits, rc);
	if (rc == 0)
		OK(fln_engine_destroy(engine));
	if (bits & FLN_FEATURE_POISON)
		(void)close(raw_uffd(1 << 14));
	test_note("features 0x%llx", (unsigned long long)bits);
}

int main(void)
{
	test_init();
	RUN(features);
	RUN(without_guests);
	RUN(text_of_guests);
	return 0;
}
