/* SPDX-License-Identifier: GPL-2.0 */
/* Trace events: one for each step of a job's life. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM daedalus

#if !defined(DAEDALUS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define DAEDALUS_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(daedalus_job_claim,
	TP_PROTO(u64 session, u64 job, u32 bytes, int error),
	TP_ARGS(session, job, bytes, error),
	TP_STRUCT__entry(
		__field(u64, session)
		__field(u64, job)
		__field(u32, bytes)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->session = session;
		__entry->job = job;
		__entry->bytes = bytes;
		__entry->error = error;
	),
	TP_printk("session=%llu job=%llu bytes=%u error=%d",
		  __entry->session, __entry->job, __entry->bytes, __entry->error)
);

TRACE_EVENT(daedalus_job_hand,
	TP_PROTO(u64 session, u64 job),
	TP_ARGS(session, job),
	TP_STRUCT__entry(
		__field(u64, session)
		__field(u64, job)
	),
	TP_fast_assign(
		__entry->session = session;
		__entry->job = job;
	),
	TP_printk("session=%llu job=%llu", __entry->session, __entry->job)
);

TRACE_EVENT(daedalus_job_end,
	TP_PROTO(u64 session, u64 job, bool failed),
	TP_ARGS(session, job, failed),
	TP_STRUCT__entry(
		__field(u64, session)
		__field(u64, job)
		__field(bool, failed)
	),
	TP_fast_assign(
		__entry->session = session;
		__entry->job = job;
		__entry->failed = failed;
	),
	TP_printk("session=%llu job=%llu failed=%d",
		  __entry->session, __entry->job, __entry->failed)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE daedalus_trace
#include <trace/define_trace.h>
