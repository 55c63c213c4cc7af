/* SPDX-License-Identifier: MIT */
/*
 * The page-state map of one block, for spin: claim, install, discard, chunk return.
 *
 * Two pages stand for 512.  The slot of the block holds a uniform state or a chunk.
 * Two servers answer faults as fln_serve_block() and fln_resolve() do; a discarder
 * takes pages away and forgets them as remove_range() does, the pages before or after
 * the map is told; a reclaimer gives chunks back a grace period after their block
 * became uniform.  Each step below that touches shared state is one atomic operation
 * of the program; steps of different processes interleave in all ways.
 *
 * What is asserted:
 *   - a page has one claimer (I3), and he alone moves it on;
 *   - a chunk in the pool, or used for another purpose, is nobody's: nobody writes to a
 *     chunk that has been given back while he is in a read section that began before;
 *   - a fault ends with its page mapped, or taken away again by the discarder;
 *   - at the end nothing is claimed, and every chunk is in the slot or in the pool.
 *
 * With BUG_NO_GRACE (a chunk goes back at once) or BUG_COLLAPSE_UNCLAIMED (pages are not
 * claimed before their chunk leaves the slot) an assertion must fail.
 */
#define NR_PAGES 2
#define NR_CHUNKS 3
#define ALL 3 /* a bit per page */
#define NR_SERVERS 2
#ifndef NR_FAULTS
#define NR_FAULTS 1 /* of each server */
#endif
#define NR_DISCARDS 1

/* The slot: a uniform state, or UNIFORM + the number of a chunk. */
#define ABSENT 0
#define PRESENT 1
#define CHUNK 2

byte slot = ABSENT;
byte claimed[NR_CHUNKS];
byte present[NR_CHUNKS];
bool in_pool[NR_CHUNKS] = true;
bool returning[NR_CHUNKS];
byte mapped = 0;    /* the kernel's page tables: the truth */
byte owner[NR_PAGES * NR_CHUNKS]; /* the claimer, plus 1: for the assertions only */

/* RCU: when a reader's section began; a grace period waits for the older ones. */
bool reading[NR_SERVERS + 1];
bool waits_for[(NR_SERVERS + 1) * NR_CHUNKS]; /* chunk c is held back by reader r */
byte nr_done = 0;

#define OWNER(c, p) owner[(c) * NR_PAGES + (p)]
#define WAITS(r, c) waits_for[(r) * NR_CHUNKS + (c)]

inline read_lock(me) { reading[me] = true }
inline read_unlock(me) {
	d_step {
		reading[me] = false;
		WAITS(me, 0) = false;
		WAITS(me, 1) = false;
		WAITS(me, 2) = false
	}
}

/* fln_blockmap_chunk(): found, or made from the uniform state. */
inline get_chunk(c, was) {
	do
	:: atomic {
		slot >= CHUNK -> c = slot - CHUNK; break
	   }
	:: atomic {
		slot < CHUNK ->
		was = slot;
		/* pool_pop() */
		if
		:: in_pool[0] -> c = 0
		:: !in_pool[0] && in_pool[1] -> c = 1
		:: !in_pool[0] && !in_pool[1] && in_pool[2] -> c = 2
		:: else -> c = NR_CHUNKS
		fi;
		if
		:: c < NR_CHUNKS ->
			assert(!returning[c]);
			in_pool[c] = false;
			claimed[c] = 0;
			present[c] = (was == PRESENT -> ALL : 0)
		:: else
		fi
	   }
	   if
	   :: c == NR_CHUNKS -> break
	   :: else ->
		/* compare and exchange of the slot */
		if
		:: atomic { slot == was -> slot = CHUNK + c }; break
		:: atomic { slot != was -> in_pool[c] = true } /* nobody has seen it */
		fi
	   fi
	od
}

/* An atomic OR of the claimed plane; @won gets what was clear before. */
inline try_claim(me, c, bits, won) {
	atomic {
		assert(!in_pool[c]);
		won = bits & ~claimed[c];
		claimed[c] = claimed[c] | bits;
		if
		:: won & 1 -> assert(OWNER(c, 0) == 0); OWNER(c, 0) = me + 1
		:: else
		fi;
		if
		:: won & 2 -> assert(OWNER(c, 1) == 0); OWNER(c, 1) = me + 1
		:: else
		fi
	}
}

inline let_go(me, c, bits) {
	atomic {
		assert(!in_pool[c]);
		if
		:: (bits) & 1 -> assert(OWNER(c, 0) == me + 1); OWNER(c, 0) = 0
		:: else
		fi;
		if
		:: (bits) & 2 -> assert(OWNER(c, 1) == me + 1); OWNER(c, 1) = 0
		:: else
		fi;
		claimed[c] = claimed[c] & ~(bits)
	}
}

/* fln_region_collapse() */
inline collapse(me, c, won) {
	if
	:: present[c] == ALL ->
#ifdef BUG_COLLAPSE_UNCLAIMED
		won = ALL;
#else
		try_claim(me, c, ALL, won);
#endif
		if
		:: atomic {
			won == ALL && present[c] == ALL && slot == CHUNK + c ->
			slot = PRESENT;
			returning[c] = true;
#ifndef BUG_NO_GRACE
			/* call_rcu: a reader that is inside now holds it back */
			WAITS(0, c) = reading[0];
			WAITS(1, c) = reading[1];
			WAITS(2, c) = reading[2]
#endif
		   }
		:: atomic { !(won == ALL && present[c] == ALL && slot == CHUNK + c) }
			if
			:: won -> let_go(me, c, won)
			:: else
			fi
		fi
	:: else
	fi
}

/* One fault on page @p, whatever the map says of it. */
inline serve(me, p, c, was, won, taken) {
	read_lock(me);
	get_chunk(c, was);
	if
	:: c == NR_CHUNKS -> mapped = mapped | (1 << p) /* no chunk: without the map */
	:: else ->
		if
		:: present[c] & (1 << p) ->
			/* a refault: forget, and claim anew */
			try_claim(me, c, 1 << p, won);
			if
			:: won ->
				atomic { assert(!in_pool[c]); present[c] = present[c] & ~won };
				let_go(me, c, won)
			:: else
			fi
		:: else
		fi;
		try_claim(me, c, 1 << p, won);
		/* PRESENT meanwhile: let go again */
		if
		:: won & present[c] -> taken = won & present[c]; let_go(me, c, taken);
			won = won & ~taken
		:: else
		fi;
		if
		:: won ->
			mapped = mapped | (1 << p); /* the install */
			atomic { assert(!in_pool[c]); present[c] = present[c] | won };
			let_go(me, c, won);
			collapse(me, c, won)
		:: else /* somebody else's claim: looked at again soon */
		fi
	fi;
	read_unlock(me)
}

proctype server(byte me) {
	byte n = 0, p, c, was, won, taken, tries;

	do
	:: n < NR_FAULTS ->
		if
		:: p = 0
		:: p = 1
		fi;
		/* The fault is tried until the page is mapped: as a held one is. */
		tries = 0;
		do
		:: !(mapped & (1 << p)) && tries < 4 ->
			serve(me, p, c, was, won, taken);
			tries++
		:: else -> break
		od;
		n++
	:: else -> break
	od;
	nr_done++
}

/* forget_block() of one page. */
inline forget(me, p, c, was, won) {
	read_lock(me);
	if
	:: slot == ABSENT -> skip
	:: else ->
		get_chunk(c, was);
		if
		:: c == NR_CHUNKS -> skip /* goes on being called PRESENT: a hint */
		:: else ->
			try_claim(me, c, 1 << p, won);
			if
			:: won ->
				atomic { assert(!in_pool[c]); present[c] = present[c] & ~won };
				let_go(me, c, won)
			:: else
			fi
		fi
	fi;
	read_unlock(me)
}

proctype discarder(byte me) {
	byte n = 0, p, c, was, won;

	do
	:: n < NR_DISCARDS ->
		if
		:: p = 0
		:: p = 1
		fi;
		/* e2 and e3 are not ordered */
		if
		:: mapped = mapped & ~(1 << p); forget(me, p, c, was, won)
		:: forget(me, p, c, was, won); mapped = mapped & ~(1 << p)
		fi;
		n++
	:: else -> break
	od;
	nr_done++
}

/* liburcu's thread: back to the pool when nobody holds it back. */
active proctype reclaimer() {
	byte c;

end:	do
	:: atomic {
		returning[0] && !WAITS(0, 0) && !WAITS(1, 0) && !WAITS(2, 0) -> c = 0
	   }
	   goto give_back
	:: atomic {
		returning[1] && !WAITS(0, 1) && !WAITS(1, 1) && !WAITS(2, 1) -> c = 1
	   }
	   goto give_back
	:: atomic {
		returning[2] && !WAITS(0, 2) && !WAITS(1, 2) && !WAITS(2, 2) -> c = 2
	   }
	   goto give_back
	od;
give_back:
	atomic {
		assert(slot != CHUNK + c);
		returning[c] = false;
		owner[c * NR_PAGES] = 0;
		owner[c * NR_PAGES + 1] = 0;
		in_pool[c] = true
	};
	goto end
}

/* When all have ended and chunks are back. */
active proctype judge() {
	nr_done == NR_SERVERS + 1 && !returning[0] && !returning[1] && !returning[2];
	atomic {
		assert(slot < CHUNK || claimed[slot - CHUNK] == 0);
		assert(in_pool[0] || slot == CHUNK);
		assert(in_pool[1] || slot == CHUNK + 1);
		assert(in_pool[2] || slot == CHUNK + 2)
	}
}

init {
	atomic {
		run server(0);
		run server(1);
		run discarder(2)
	}
}
