/* SPDX-License-Identifier: GPL-2.0 */
/* The nodes of the stateless face. */
#ifndef DAEDALUS_NODES_H
#define DAEDALUS_NODES_H

struct daedalus_dev;
struct daedalus_video;

struct daedalus_video *daedalus_nodes_create(struct daedalus_dev *dev);
int daedalus_nodes_register(struct daedalus_video *video);
void daedalus_nodes_destroy(struct daedalus_video *video);

#endif
