/* SPDX-License-Identifier: GPL-2.0 */
/* The messages and ioctls of a stateful session's worker. */
#ifndef DAEDALUS_FLOW_WORKER_H
#define DAEDALUS_FLOW_WORKER_H

struct daedalus_worker_ops;

extern const struct daedalus_worker_ops daedalus_flow_worker_ops;

#endif
