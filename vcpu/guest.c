/* SPDX-License-Identifier: MIT */
/* Code that runs in the guest, compiled for it (fln_guest_code()). */
#include "vcpu/state.h"

uint32_t vcpu_load_emulated(const uint32_t *from)
{
	struct vcpu_mail *mail;

	__asm__ volatile("mov %%gs:0, %0" : "=r"(mail));
	__asm__ volatile("cld; outsl" : "+S"(from) : "d"(VCPU_PORT_ECHO) : "memory", "cc");
	return *(volatile uint32_t *)&mail->echo;
}
