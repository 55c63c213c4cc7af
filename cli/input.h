/* SPDX-License-Identifier: MIT */
/*
 * The image file, and filling memory from it.
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

/* Open and check the file, also against the memory that there is.  False: it has said why. */
bool cli_input_open(struct cli_input *in, const char *path);
void cli_input_close(struct cli_input *in);

/*
 * Read exactly @len_bytes at @offset_bytes.
 * Return: 0; a negative errno; -ENODATA when the file has become shorter.
 */
int cli_input_read(const struct cli_input *in, uint64_t offset_bytes, void *buf,
		   uint64_t len_bytes);

/* The next part of [*lo, end) that is no hole: false when there is none. */
bool cli_input_next_data(const struct cli_input *in, uint64_t *lo, uint64_t end, uint64_t *hi);

#endif
