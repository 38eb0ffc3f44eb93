/* SPDX-License-Identifier: GPL-2.0 */
/* The control device. */
#ifndef DAEDALUS_CONTROL_H
#define DAEDALUS_CONTROL_H

struct daedalus_stateful;
struct daedalus_video;

int daedalus_control_init(struct daedalus_video *video, struct daedalus_stateful *stateful);
void daedalus_control_exit(void);

#endif
