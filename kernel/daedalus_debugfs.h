/* SPDX-License-Identifier: GPL-2.0 */
/* The debugfs files. */
#ifndef DAEDALUS_DEBUGFS_H
#define DAEDALUS_DEBUGFS_H

struct daedalus_dev;

void daedalus_debugfs_init(struct daedalus_dev *dev);
void daedalus_debugfs_exit(void);

#endif
