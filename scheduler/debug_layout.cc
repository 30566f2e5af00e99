#include "scheduler/debug_layout.h"

#include <cstddef>

#include "scheduler/core_dump.h"
#include "scheduler/scheduler.h"
#include "scheduler/stack.h"
#include "scheduler/task.h"

// thread and processor have private or reference members; gcc and clang lay them out as any struct.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

#define FIELD(type, member) \
  { #type "." #member, offsetof(type, member) }

namespace weft::sched {

// Names for statuses and reasons are the ones that dumps print (task_state.h).
extern "C" [[gnu::used, gnu::retain]] constexpr debug_layout_entry weft_debug_layout[] = {
    {"version", 1u},

    FIELD(task, state),
    FIELD(task, foreign),
    FIELD(task, system),
    FIELD(task, locked_to_thread),
    FIELD(task, id),
    FIELD(task, ctx),
    FIELD(task, stk),
    FIELD(task, own_thread),
    FIELD(task, since_ns),
    FIELD(task, waits_on),
    FIELD(task, parent_id),
    FIELD(task, created_by),
    FIELD(task, name),
    FIELD(task, body),
    {"task.size", sizeof(task)},
    {"body_ops.invoke", offsetof(detail::body_ops, invoke)},
    {"tasks.table", static_cast<const void*>(&g_task_table)},
    FIELD(task_table, chunks),
    FIELD(task_table, chunk_count),
    FIELD(task_table, chunk_records),

    // The frame that a context which does not execute has at its stack pointer.
    FIELD(context, sp),
#if defined(WEFT_CONTEXT_BOOST) && defined(__x86_64__)
    {"saved.rsp", 0x48u},
    {"saved.r12", 0x10u},
    {"saved.r13", 0x18u},
    {"saved.r14", 0x20u},
    {"saved.r15", 0x28u},
    {"saved.rbx", 0x30u},
    {"saved.rbp", 0x38u},
    {"saved.rip", 0x40u},
#elif defined(__x86_64__)
    {"saved.rsp", 0x38u},
    {"saved.r15", 0x00u},
    {"saved.r14", 0x08u},
    {"saved.r13", 0x10u},
    {"saved.r12", 0x18u},
    {"saved.rbx", 0x20u},
    {"saved.rbp", 0x28u},
    {"saved.rip", 0x30u},
#elif defined(__aarch64__)
    {"saved.sp", 0xb0u},
    {"saved.x19", 0x40u},
    {"saved.x20", 0x48u},
    {"saved.x21", 0x50u},
    {"saved.x22", 0x58u},
    {"saved.x23", 0x60u},
    {"saved.x24", 0x68u},
    {"saved.x25", 0x70u},
    {"saved.x26", 0x78u},
    {"saved.x27", 0x80u},
    {"saved.x28", 0x88u},
    {"saved.x29", 0x90u},
    {"saved.x30", 0x98u},
    {"saved.pc", 0x98u},
#endif

    FIELD(stack, lo),
    FIELD(stack, hi),
    {"stack.size", sizeof(stack)},

    FIELD(thread, p),
    FIELD(thread, current),
    FIELD(thread, foreign),
    FIELD(thread, role),
    FIELD(thread, tid),
    FIELD(thread, spinning),
    FIELD(thread, all_next),
    {"threads.list", static_cast<const void*>(&g_thread_list)},
    FIELD(processor, id),
    FIELD(processor, owner),
    FIELD(processor, status),
    {"processors.first", static_cast<const void*>(g_sched.processors)},
    {"processors.count", static_cast<const void*>(&g_sched.max_procs)},
    {"clock.coarse_ns", static_cast<const void*>(&base::g_coarse_ns)},

    {"core.index", static_cast<const void*>(&g_core_dump)},
    FIELD(core_dump_index, prepared_ns),
    FIELD(core_dump_index, copies),
    FIELD(core_dump_index, copy_count),
    FIELD(core_dump_index, in_place),
    FIELD(core_dump_index, missing),
    {"stack_copy.size", sizeof(stack_copy)},

    {"status.free", uint64_t{static_cast<uint8_t>(task_status::free)}},
    {"status.runnable", uint64_t{static_cast<uint8_t>(task_status::runnable)}},
    {"status.running", uint64_t{static_cast<uint8_t>(task_status::running)}},
    {"status.syscall", uint64_t{static_cast<uint8_t>(task_status::blocking)}},
    {"status.waiting", uint64_t{static_cast<uint8_t>(task_status::waiting)}},
#define WEFT_WAIT_REASON(name, text) \
  {"reason." text, uint64_t{static_cast<uint8_t>(wait_reason::name)}},
#include "scheduler/wait_reasons.def"
#undef WEFT_WAIT_REASON
    {},
};

}  // namespace weft::sched
