/* SPDX-License-Identifier: MIT */
/*
 * The jemalloc adapter: an arena per node; its extents are bound to the node when mapped.
 *
 * Thread caches are bypassed on purpose.  A cache returns memory that was freed into it,
 * whatever its arena, so a thread that serves two nodes would mix them.  The library
 * allocates only when objects are created, where the arena's lock costs little.
 */
#include "numa/jemalloc.h"

#include "base/error.h"
#include "base/page.h"
#include "numa/placement.h"

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct jemalloc_ctx;

/* jemalloc keeps a pointer to the hooks for the lifetime of the arena. */
struct node_arena {
	extent_hooks_t hooks; /* must be first: the hook casts it back to its arena */
	struct jemalloc_ctx *ctx;
	uint32_t node_os_index;
	unsigned int arena_idx;
};

struct jemalloc_ctx {
	extent_hooks_t *dflt;   /* jemalloc's default hooks */
	_Atomic int bind_error; /* the first error of fln_bind_memory(), or 0 */
	uint32_t nr_arenas;
	struct node_arena arenas[];
};

/* Map as jemalloc does, then bind.  jemalloc may hold the arena's lock: allocate nothing here. */
static void *extent_alloc_bound(extent_hooks_t *hooks, void *new_addr, size_t size,
				size_t alignment, bool *zero, bool *commit, unsigned int arena_idx)
{
	struct node_arena *arena = (struct node_arena *)hooks;
	extent_hooks_t *dflt = arena->ctx->dflt;
	void *addr = dflt->alloc(dflt, new_addr, size, alignment, zero, commit, arena_idx);
	int rc, none = 0;

	if (!addr)
		return NULL;
	rc = fln_bind_memory(addr, size, arena->node_os_index);
	if (rc)
		(void)atomic_compare_exchange_strong(&arena->ctx->bind_error, &none, rc);
	return addr;
}

static const struct node_arena *find_arena(const struct jemalloc_ctx *ctx, uint32_t node)
{
	for (uint32_t i = 0; i < ctx->nr_arenas; i++) {
		if (ctx->arenas[i].node_os_index == node)
			return &ctx->arenas[i];
	}
	return NULL;
}

static void *adapter_alloc(void *vctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	const struct node_arena *arena = node == FLN_NODE_ANY ? NULL : find_arena(vctx, node);
	int flags = MALLOCX_TCACHE_NONE;

	FLN_DEBUG_ASSERT(fln_is_pow2(align_bytes));
	flags |= MALLOCX_LG_ALIGN(__builtin_ctzll(align_bytes));
	if (arena)
		flags |= MALLOCX_ARENA(arena->arena_idx);
	return mallocx(size_bytes ? size_bytes : 1, flags);
}

static void adapter_free(void *vctx, void *ptr, size_t size_bytes, uint32_t node)
{
	(void)vctx;
	(void)size_bytes;
	(void)node;
	/* jemalloc finds the arena by the address. */
	if (ptr)
		dallocx(ptr, MALLOCX_TCACHE_NONE);
}

static void destroy_arenas(struct jemalloc_ctx *ctx)
{
	while (ctx->nr_arenas > 0) {
		struct node_arena *arena = &ctx->arenas[--ctx->nr_arenas];
		char name[48];

		(void)snprintf(name, sizeof(name), "arena.%u.destroy", arena->arena_idx);
		(void)mallctl(name, NULL, NULL, NULL, 0);
	}
}

static int add_arena(struct jemalloc_ctx *ctx, uint32_t node_os_index)
{
	struct node_arena *arena = &ctx->arenas[ctx->nr_arenas];
	extent_hooks_t *hooks = &arena->hooks;
	size_t size = sizeof(arena->arena_idx);
	int err;

	arena->hooks = *ctx->dflt;
	arena->hooks.alloc = extent_alloc_bound;
	arena->ctx = ctx;
	arena->node_os_index = node_os_index;
	/* Pass the hooks at creation, so that the arena's own metadata lies on the node too. */
	err = mallctl("arenas.create", &arena->arena_idx, &size, &hooks, sizeof(void *));
	if (err)
		return fln_fail(err, "jemalloc: cannot create an arena for node %u: %s",
				node_os_index, strerror(err));
	ctx->nr_arenas++;
	return 0;
}

int fln_jemalloc_allocator_create(const struct fln_topology *t, struct fln_allocator *out)
{
	uint32_t nr_nodes = fln_topology_nr_nodes(t);
	struct jemalloc_ctx *ctx = calloc(1, sizeof(*ctx) + nr_nodes * sizeof(ctx->arenas[0]));
	size_t size = sizeof(void *); /* mallctl() returns a pointer to hooks */
	int rc;

	if (!ctx)
		return fln_fail(ENOMEM, "no memory for %u arenas", nr_nodes);
	rc = mallctl("arena.0.extent_hooks", &ctx->dflt, &size, NULL, 0);
	if (rc) {
		rc = fln_fail(rc, "jemalloc: cannot read its extent hooks: %s; use jemalloc 5",
			      strerror(rc));
		goto out_free;
	}
	for (uint32_t node = 0; node < nr_nodes; node++) {
		rc = add_arena(ctx, fln_topology_node_os_index(t, node));
		if (rc)
			goto out_arenas;
	}
	*out = (struct fln_allocator){
		.size = sizeof(*out),
		.ctx = ctx,
		.alloc = adapter_alloc,
		.free = adapter_free,
	};
	return 0;

out_arenas:
	destroy_arenas(ctx);
out_free:
	free(ctx);
	return rc;
}

void fln_jemalloc_allocator_destroy(struct fln_allocator *a)
{
	if (!a || !a->ctx)
		return;
	FLN_ASSERT(a->alloc == adapter_alloc);
	destroy_arenas(a->ctx);
	free(a->ctx);
	memset(a, 0, sizeof(*a));
}

int fln_jemalloc_bind_error(const struct fln_allocator *a)
{
	const struct jemalloc_ctx *ctx = a->ctx;

	return atomic_load(&ctx->bind_error);
}
