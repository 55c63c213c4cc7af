/* SPDX-License-Identifier: MIT */
/*
 * The image file of `faultlane restore`.
 */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <stdbool.h>
#include <stdint.h>

struct cli_input {
	const char *path;
	int fd;
	uint64_t len_bytes;
};

/* Open the file; check its size, also against available memory.  False: an error was printed. */
bool cli_input_open(struct cli_input *in, const char *path);
void cli_input_close(struct cli_input *in);

/*
 * Read exactly @len_bytes at @offset_bytes.
 * Return: 0; -ENODATA when the file has been truncated; -errno.
 */
int cli_input_read(const struct cli_input *in, uint64_t offset_bytes, void *buf,
		   uint64_t len_bytes);

/* Find the next data extent in [*lo, end), in whole pages; false when there is none. */
bool cli_input_next_data(const struct cli_input *in, uint64_t *lo, uint64_t end, uint64_t *hi);

#endif
