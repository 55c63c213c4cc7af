/* SPDX-License-Identifier: MIT */
/*
 * Code that KVM emulates and that touches memory that has failed: no signal and no
 * error, but an exit of KVM_RUN that asks for the contents, as of a device (MMIO).  An
 * answer would be read as if it had been there.  What is there is read as ever.
 */
#include "kvm.h"

int main(void)
{
	struct plt_denied (*const ways[])(void) = { plt_deny_none, plt_deny_end, plt_deny_sigbus,
						    plt_deny_poison };

	plt_init();
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct plt_denied d = ways[i]();
		uint64_t there = plt_run_once(VCPU_VM_F_LEVEL0, d.mem, d.len, guest_read_emulated,
					      d.mem + PLT_PAGE, 0, "a page that is there");

		PLT_CHECK(there == 0x01010101u * d.mem[PLT_PAGE] && there != 0,
			  "%s: the page beside it reads %llx", d.how, (unsigned long long)there);
		(void)plt_run_once(VCPU_VM_F_LEVEL0, d.mem, d.len, guest_read_emulated, d.at, -EIO,
				   d.how);
	}
	plt_pass();
}
