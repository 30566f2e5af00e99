"""gdb commands for weft programs, live and in core files.

    (gdb) source PREFIX/share/weft/gdb/weft.py
    (gdb) help weft

A task that does not execute has its registers saved on its own stack, so gdb cannot see it: it knows threads.
`weft bt` lets gdb unwind it all the same. An unwinder written in Python claims the innermost frame of the selected
thread and answers that its caller's registers are the saved ones; everything above is gdb's own work, with
inlined frames, lines and variables. No register is written, so it works in core files too.

Nothing here depends on types in the debug information (release builds have none): offsets, enumerators and the
addresses of the runtime's tables come from two tables in the program, weft_debug_layout and
weft_debug_layout_runtime (scheduler/debug_layout.cc, runtime/debug_layout.cc). scheduler/core_dump.cc says what a
core file contains of parked tasks.
"""

import array
import bisect
import contextlib
import re
import struct
import time

import gdb
import gdb.unwinder

ENTRY = struct.Struct("=QQ")
COPY = struct.Struct("=QQQQ")
EXECUTING = ("running", "syscall")
# Code of these files is the library's: a task is created by whoever called it.
LIBRARY_FILE = re.compile(r"(^|/)(weft/[\w./]*\.h|include/c\+\+/.*|bits/\w+\.h)$")


def symbol_address(name):
    try:
        return int(gdb.parse_and_eval(f"(unsigned long)&{name}"))
    except gdb.error:
        return None


class Memory:
    """Reads of the selected inferior's memory. A core file's missing pages read as zeros or fail."""

    def __init__(self):
        self._inferior = gdb.selected_inferior()

    def read(self, address, size):
        try:
            return self._inferior.read_memory(address, size).tobytes()
        except gdb.error:
            return None

    def number(self, address, size=8, signed=False):
        data = self.read(address, size)
        return int.from_bytes(data, "little", signed=signed) if data else 0

    def text(self, address, limit=256):
        """A C string; reads on page by page, because the next page may not exist."""
        text = b""
        while address and len(text) < limit:
            part = self.read(address, min(limit - len(text), 64 - address % 64))
            if not part:
                break
            end = part.find(b"\0")
            if end >= 0:
                return (text + part[:end]).decode(errors="replace")
            text += part
            address += len(part)
        return text.decode(errors="replace")


class Task:
    """One record, as read at one moment."""

    __slots__ = ("address", "id", "status", "reason", "since_ns", "name", "created_by", "parent_id", "sp", "stack",
                 "waits_on", "foreign", "system", "locked_to_thread", "own_thread", "body", "record")

    @property
    def state(self):
        return self.reason if self.status == "waiting" else self.status


class Thread:
    __slots__ = ("address", "tid", "role", "processor", "task", "foreign", "spinning")


class Runtime:
    """What the program's tables and the runtime's lists say now. Made anew for each command."""

    def __init__(self):
        self.memory = Memory()
        table = symbol_address("weft_debug_layout")
        if table is None:
            raise gdb.GdbError("no weft in this program: it has no symbol weft_debug_layout (is the program "
                               "loaded, and not stripped of its symbol table?)")
        self.layout = self._read_table(table)
        if not self.layout:
            raise gdb.GdbError("weft_debug_layout cannot be read: start the program or load its core file")
        runtime = symbol_address("weft_debug_layout_runtime")
        self.objects = self._read_table(runtime) if runtime else {}
        self.statuses = self._enumerators("status.")
        self.reasons = self._enumerators("reason.")
        self.in_core = gdb.selected_inferior().connection is not None and \
            gdb.selected_inferior().connection.type == "core"
        self._copies = self._read_copies()
        self._copy_of = None
        self._by_sp = None
        self._tasks = None

    def _read_table(self, address):
        layout = {}
        while data := self.memory.read(address, ENTRY.size):
            name, value = ENTRY.unpack(data)
            if name == 0:
                break
            layout[self.memory.text(name)] = value
            address += ENTRY.size
        return layout

    def _enumerators(self, prefix):
        return {value: name[len(prefix):] for name, value in self.layout.items() if name.startswith(prefix)}

    def _read_copies(self):
        index = self.layout["core.index"]
        count = self.memory.number(index + self.layout["core_dump_index.copy_count"])
        first = self.memory.number(index + self.layout["core_dump_index.copies"])
        return self.memory.read(first, count * COPY.size) or b"" if count and first else b""

    def copies(self):
        """{task address: (sp, copy, size)} for the stacks that are in the core file as copies."""
        if self._copy_of is None:
            self._copy_of = {task: (sp, copy, size) for task, sp, copy, size in COPY.iter_unpack(self._copies)}
        return self._copy_of

    def copy_of(self, task):
        """(copy, size) of the task's stack from its stack pointer up; (0, 0) if it was not copied."""
        if self._copy_of is not None:
            sp, copy, size = self._copy_of.get(task.address, (0, 0, 0))
            return (copy, size) if sp == task.sp else (0, 0)
        pattern = struct.pack("=QQ", task.address, task.sp)
        at = self._copies.find(pattern)
        while at >= 0 and at % COPY.size != 0:
            at = self._copies.find(pattern, at + 1)
        return COPY.unpack_from(self._copies, at)[2:] if at >= 0 else (0, 0)

    def now(self):
        """Nanoseconds of CLOCK_MONOTONIC, when the program was stopped or died."""
        if not self.in_core:
            return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        prepared = self.memory.number(self.layout["core.index"] + self.layout["core_dump_index.prepared_ns"])
        return prepared or self.memory.number(self.layout["clock.coarse_ns"])

    def tasks(self):
        """Every record in use, by id."""
        if self._tasks is None:
            self._tasks = sorted(self._read_tasks(), key=lambda t: t.id)
        return self._tasks

    def _chunks(self):
        """(address, bytes) of each piece of the table of records."""
        layout, number = self.layout, self.memory.number
        table = layout["tasks.table"]
        first = number(table + layout["task_table.chunks"])
        count = number(number(table + layout["task_table.chunk_count"]))
        size = layout["task.size"] * number(table + layout["task_table.chunk_records"])
        for chunk in array.array("Q", self.memory.read(first, 8 * count) or b""):
            data = self.memory.read(chunk, size)
            if data is not None:
                yield chunk, data

    def _read_tasks(self):
        size = self.layout["task.size"]
        for chunk, data in self._chunks():
            for base in range(0, len(data), size):
                task = self._parsed(chunk + base, data[base:base + size])
                if task is not None:
                    yield task

    def _parsed(self, address, record):
        at = self.layout

        def field(name, size=8):
            return int.from_bytes(record[at[name]:at[name] + size], "little")
        word = field("task.state", 4)
        if word & 0xff == at["status.free"]:
            return None
        t = Task()
        t.address = address
        t.record = record
        t.status = self.statuses.get(word & 0xff, f"status {word & 0xff}")
        t.reason = self.reasons.get(word >> 8 & 0xff, f"reason {word >> 8 & 0xff}")
        t.id, t.parent_id, t.created_by = field("task.id"), field("task.parent_id"), field("task.created_by")
        t.since_ns, t.waits_on, t.stack = field("task.since_ns"), field("task.waits_on"), field("task.stk")
        name = field("task.name")
        t.name = self.memory.text(name) if name else ""
        sp = at["task.ctx"] + at["context.sp"]
        t.sp = int.from_bytes(record[sp:sp + 8], "little")
        t.foreign, t.system = bool(field("task.foreign", 1)), bool(field("task.system", 1))
        t.locked_to_thread = bool(field("task.locked_to_thread", 1))
        t.own_thread, t.body = field("task.own_thread"), field("task.body")
        if t.status != "waiting":  # the closure of a task that has not run may lie there
            t.waits_on = 0
        return t

    def task(self, number):
        """By id. Does not make objects of the others: there may be a million."""
        size, words = self.layout["task.size"], self.layout["task.size"] // 8
        for chunk, data in self._chunks():
            ids = array.array("Q", data)[self.layout["task.id"] // 8::words]
            for i, found in enumerate(ids) if number in ids else ():
                task = self._parsed(chunk + i * size, data[i * size:(i + 1) * size]) if found == number else None
                if task is not None:
                    return task
        raise gdb.GdbError(f"no task {number} (weft tasks lists them)")

    def users_tasks(self):
        return [t for t in self.tasks() if not t.foreign and not t.system]

    def threads(self):
        at = self.memory.number
        thread = at(at(self.layout["threads.list"]))
        while thread:
            t = Thread()
            t.address = thread
            t.tid = at(thread + self.layout["thread.tid"], 4, True)
            t.role = self.memory.text(at(thread + self.layout["thread.role"]))
            processor = at(thread + self.layout["thread.p"])
            t.processor = at(processor + self.layout["processor.id"], 4, True) if processor else None
            t.task = at(thread + self.layout["thread.current"])
            t.foreign = bool(at(thread + self.layout["thread.foreign"], 1))
            t.spinning = bool(at(thread + self.layout["thread.spinning"], 1))
            yield t
            thread = at(thread + self.layout["thread.all_next"])

    def thread_of(self, task):
        """gdb's thread that executes the task; None if it does not execute."""
        for t in self.threads():
            if t.task == task.address:
                return gdb_thread(t.tid)
        return None

    def saved_frame(self, task):
        """Where the task's stack pointer points now: into its stack or into the copy of its end."""
        return self.copy_of(task)[0] or task.sp

    def saved_registers(self, task):
        frame = self.saved_frame(task)
        registers = {}
        for name, offset in self.layout.items():
            if name.startswith("saved."):
                register = name[6:]
                moved = register in ("rsp", "sp")
                registers[register] = frame + offset if moved else self.memory.number(frame + offset)
        return registers

    def live_stack(self, task, limit=1 << 20):
        """(address, bytes) from the stack pointer up to the stack's header and with it."""
        copy, size = self.copy_of(task)
        if copy:
            return copy, self.memory.read(copy, size) or b""
        low = high = 0
        if task.stack:
            low, high = self.stack_bounds(task)
            sp = task.sp
            if task.status in EXECUTING:
                thread = self.thread_of(task)
                with selected(thread):
                    sp = stack_pointer() - 128 if thread else 0  # with the red zone
            if not low <= sp < high:
                return 0, b""
            low, high = sp, max(high, task.stack + self.layout["stack.size"])
        size = min(high - low, limit)
        return low, (self.memory.read(low, size) if size > 0 else None) or b""

    def stack_bounds(self, task):
        at = self.memory.number
        return at(task.stack + self.layout["stack.lo"]), at(task.stack + self.layout["stack.hi"])

    def read_anywhere(self, address, size):
        """As memory.read, but finds what lies in copied stack ends too."""
        if self._by_sp is None:
            self._by_sp = sorted(self.copies().values())
        i = bisect.bisect_right(self._by_sp, (address, 1 << 63)) - 1
        if i >= 0:
            sp, copy, length = self._by_sp[i]
            if address < sp + length:
                address += copy - sp
        return self.memory.read(address, size)

    def stack_owner(self, address):
        """The task whose stack contains the address."""
        self.copies()
        for t in self.tasks():
            if t.stack:
                size = self.copy_of(t)[1]
                low, high = (t.sp, t.sp + size) if size else self.stack_bounds(t)
                if low <= address < high:
                    return t
        return None


def gdb_thread(tid):
    for thread in gdb.selected_inferior().threads():
        if tid in thread.ptid[1:]:
            return thread
    return None


def stack_pointer():
    for name in ("rsp", "sp"):
        with contextlib.suppress(ValueError, gdb.error):
            return int(gdb.newest_frame().read_register(name))
    return 0


@contextlib.contextmanager
def selected(thread):
    """With that thread selected; afterwards thread and frame are the ones from before."""
    before = gdb.selected_thread()
    frame = None
    with contextlib.suppress(gdb.error):
        frame = gdb.selected_frame()
    try:
        if thread is not None and thread.is_valid():
            thread.switch()
        yield
    finally:
        if before is not None and before.is_valid():
            before.switch()
        if frame is not None and frame.is_valid():
            frame.select()


# ---- stacks of tasks that do not execute

class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class TaskUnwinder(gdb.unwinder.Unwinder):
    """While `registers` is set, the caller of the selected thread's innermost frame is the parked task."""

    def __init__(self):
        super().__init__("weft-task")
        self.registers = None
        self.innermost = None  # (pc, sp) of the frame to claim

    def __call__(self, pending):
        if self.registers is None:
            return None
        pc_name, sp_name = self.names(self.registers)
        pc, sp = pending.read_register(pc_name), pending.read_register(sp_name)
        if (int(pc), int(sp)) != self.innermost:
            return None
        # Just below the task's own frames, as the frame of a function that they called would be.
        task_sp = self.registers[sp_name]
        answer = pending.create_unwind_info(FrameId(gdb.Value(task_sp - 16).cast(sp.type), pc))
        for name, value in self.registers.items():
            answer.add_saved_register(name, gdb.Value(value).cast(pending.read_register(name).type))
        return answer

    @staticmethod
    def names(registers):
        return ("rip", "rsp") if "rip" in registers else ("pc", "sp")


UNWINDER = TaskUnwinder()


@contextlib.contextmanager
def standing_in(registers):
    """Inside, the selected thread's frames 1 and up (the number is yielded) are those of the saved registers."""
    frame = gdb.newest_frame()
    first = 1
    while frame.type() == gdb.INLINE_FRAME:
        frame = frame.older()
        first += 1
    pc_name, sp_name = TaskUnwinder.names(registers)
    UNWINDER.innermost = (int(frame.read_register(pc_name)), int(frame.read_register(sp_name)))
    UNWINDER.registers = registers
    gdb.invalidate_cached_frames()
    try:
        yield first
    finally:
        UNWINDER.registers = None
        gdb.invalidate_cached_frames()


def frames_from(text, first):
    """gdb's output without what it says of frames before that one."""
    lines, keep = [], True
    for line in text.splitlines(keepends=True):
        match = re.match(r"#(\d+)\b", line)
        if match is not None:
            keep = int(match.group(1)) >= first
        if keep:
            lines.append(line)
    return "".join(lines)


def with_task(runtime, task, command):
    """What gdb prints for the command when it looks at the task."""
    if task.status in EXECUTING:
        thread = runtime.thread_of(task)
        if thread is None:
            return "its thread is not known (it is just starting or ending)\n"
        with selected(thread):
            return gdb.execute(command, to_string=True)
    if task.foreign:
        thread = gdb_thread(runtime.memory.number(task.own_thread + runtime.layout["thread.tid"], 4, True))
        with selected(thread):
            return gdb.execute(command, to_string=True)
    if not task.stack:
        entry = runtime.memory.number(task.body + runtime.layout["body_ops.invoke"])
        return f"not started; begins in {described_code(entry)}\n"
    registers = runtime.saved_registers(task)
    pc_name, _ = TaskUnwinder.names(registers)
    if registers[pc_name] == 0:
        return "its stack is not in the core file\n"
    if gdb.selected_thread() is None:
        return "the program is not running\n"
    with selected(gdb.selected_thread()), standing_in(registers) as first:
        frame = gdb.newest_frame()
        for _ in range(first):
            frame = frame.older()
        frame.select()
        return frames_from(gdb.execute(command, to_string=True), first)


# ---- code and data addresses in words

def described_code(pc):
    """FUNCTION at FILE:LINE of an instruction; the innermost function that is not the library's own."""
    if not pc:
        return ""
    with contextlib.suppress(gdb.error):
        line = gdb.find_pc_line(pc)
        file, number = (line.symtab.filename, line.line) if line.symtab else ("", 0)
        block = gdb.block_for_pc(pc)
        while block is not None and block.function is None:
            block = block.superblock
        while block is not None and block.function is not None:
            outer = block.superblock
            while outer is not None and outer.function is None and not outer.is_static and not outer.is_global:
                outer = outer.superblock
            inlined = outer is not None and outer.function is not None
            if not LIBRARY_FILE.search(file) or not inlined:
                break
            # An inlined function's symbol lies where it was called.
            file, number = block.function.symtab.filename, block.function.line
            block = outer
        if block is not None and block.function is not None:
            where = f" at {file}:{number}" if file else ""
            return block.function.print_name + where
    return symbol_text(pc) or hex(pc)


def symbol_text(address):
    text = gdb.execute(f"info symbol {address:#x}", to_string=True).strip()
    return "" if text.startswith("No symbol") else text


def described_object(runtime, address):
    text = symbol_text(address)
    if text:
        return text
    owner = runtime.stack_owner(address)
    if owner is not None:
        return f"on the stack of {title(owner)}"
    return "allocated memory"


def title(task):
    return f'task {task.id} "{task.name}"' if task.name else f"task {task.id}"


def duration(ns):
    if ns < 0:
        return "-"
    for unit, size in (("h", 3600e9), ("min", 60e9), ("s", 1e9), ("ms", 1e6)):
        if ns >= size:
            return f"{ns / size:.1f} {unit}"
    return f"{ns / 1e3:.0f} us"


def heading(runtime, task, now):
    facts = [task.state]
    if task.status in ("waiting", "syscall"):
        facts.append(duration(now - task.since_ns))
    if task.locked_to_thread:
        facts.append("locked to thread")
    lines = [f"{title(task)} [{', '.join(facts)}]"]
    if task.created_by:
        parent = f" in task {task.parent_id}" if task.parent_id else ""
        lines.append(f"created by {described_code(task.created_by - 1)}{parent}")
    return "\n".join(lines) + "\n"


# ---- commands

class WeftCommand(gdb.Command):
    """Tasks of a weft program: weft tasks, weft bt, weft why, weft threads, weft task, weft gcore."""

    def __init__(self):
        super().__init__("weft", gdb.COMMAND_STACK, prefix=True)

    def invoke(self, argument, from_tty):
        gdb.execute("help weft")


class TasksCommand(gdb.Command):
    """List tasks: weft tasks [-a] [STATE]

Shows id, state or what the task waits for, for how long, name, and where it was created. STATE keeps the tasks
whose state contains it ("running", "runnable", "syscall", "waiting", "chan receive", "sleep", ...).
-a includes the runtime's own tasks and threads that are no workers."""

    def __init__(self):
        super().__init__("weft tasks", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = argument.split()
        everybody = "-a" in words
        wanted = " ".join(w for w in words if w != "-a").strip("\"'")
        runtime = Runtime()
        now = runtime.now()
        tasks = [t for t in (runtime.tasks() if everybody else runtime.users_tasks())
                 if wanted in t.state or wanted == t.status]
        created = {}
        rows = [("ID", "STATE", "FOR", "NAME", "CREATED BY")]
        for t in tasks:
            if t.created_by not in created:
                created[t.created_by] = described_code(t.created_by - 1) if t.created_by else ""
            timed = t.status in ("waiting", "syscall")
            name = t.name or ("(thread)" if t.foreign else "(system)" if t.system else "")
            rows.append((str(t.id), t.state, duration(now - t.since_ns) if timed else "", name,
                         created[t.created_by]))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        for row in rows:
            gdb.write(f"{row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  "
                      f"{row[3]:<{widths[3]}}  {row[4]}".rstrip() + "\n")
        gdb.write(f"{len(tasks)} of {len(runtime.tasks() if everybody else runtime.users_tasks())} tasks\n")


class BacktraceCommand(gdb.Command):
    """Backtrace of a task: weft bt ID|all [ARGUMENTS OF bt]

In a core file too. Frames of a task that does not execute are numbered from 1, because frame 0 is that of the
thread which stands in for it; `weft task ID frame N` takes these numbers."""

    def __init__(self):
        super().__init__("weft bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        which, _, rest = argument.strip().partition(" ")
        if not which:
            raise gdb.GdbError("weft bt needs a task's id, or all")
        runtime = Runtime()
        now = runtime.now()
        if which == "all":
            runtime.copies()
        for task in runtime.users_tasks() if which == "all" else [runtime.task(number_of(which))]:
            gdb.write(heading(runtime, task, now))
            gdb.write(with_task(runtime, task, f"bt {rest}".strip()))
            if which == "all":
                gdb.write("\n")


class TaskCommand(gdb.Command):
    """Run a gdb command as if the task were the selected thread: weft task ID COMMAND

For instance: weft task 7 frame 4, weft task 7 frame apply all -q info locals"""

    def __init__(self):
        super().__init__("weft task", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        which, _, command = argument.strip().partition(" ")
        if not which or not command:
            raise gdb.GdbError("weft task needs a task's id and a command")
        runtime = Runtime()
        gdb.write(with_task(runtime, runtime.task(number_of(which)), command.strip()))


class WhyCommand(gdb.Command):
    """What a task waits for, and who else is concerned: weft why ID

Shows the wait reason, the object and its state, every task that waits for the same object, and the tasks whose
stacks or records refer to it: whoever holds a lock or was asked to finish something is among these."""

    def __init__(self):
        super().__init__("weft why", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        if not argument.strip():
            raise gdb.GdbError("weft why needs a task's id")
        runtime = Runtime()
        task = runtime.task(number_of(argument.strip()))
        gdb.write(heading(runtime, task, runtime.now()))
        if task.status != "waiting":
            gdb.write({"runnable": "it waits for a processor\n"}.get(task.status, "it does not wait\n"))
            return
        targets = [task.waits_on] if task.waits_on else []
        if task.reason == "select":
            targets = channels_of_select(runtime, task) or targets
        if not targets:
            gdb.write("it waits for no object that other tasks could hold\n")
            return
        for target in targets:
            self.describe(runtime, task, target)

    @staticmethod
    def describe(runtime, task, target):
        state = object_state(runtime, task, target)
        gdb.write(f"waits for {target:#x}, {described_object(runtime, target)}" + (f": {state}" if state else "") + "\n")
        by_address = {t.address: t for t in runtime.tasks()}
        waiting = {t.address: t.state for t in by_address.values() if t.status == "waiting" and t.waits_on == target}
        for side, waiters in (channel_waiters(runtime, target) if is_channel_wait(task) else {}).items():
            waiting.update({w: f"{side} ({by_address[w].state})" for w in waiters if w in by_address})
        waiting.pop(task.address, None)
        write_some([f"  also waits: {title(by_address[a])} [{how}]\n" for a, how in waiting.items()])
        pattern = struct.pack("=Q", target)
        runtime.copies()
        related = []
        for other in by_address.values():
            if other.address == task.address or other.address in waiting:
                continue
            if pattern in runtime.live_stack(other)[1]:
                related.append(f"  refers to it from its stack: {title(other)} [{other.state}]\n")
            elif not other.stack and not other.foreign and pattern in other.record:
                related.append(f"  was started with it: {title(other)} [{other.state}]\n")
        write_some(related)


def write_some(lines, most=50):
    gdb.write("".join(lines[:most]))
    if len(lines) > most:
        gdb.write(f"  and {len(lines) - most} more\n")


def is_channel_wait(task):
    return task.reason.startswith("chan") or task.reason == "select"


def channel_waiters(runtime, channel):
    """{"receiver": [task addresses], "sender": [...]}"""
    at = runtime.objects
    found = {}
    for side in ("receivers", "senders"):
        waiter = runtime.memory.number(channel + at["chan." + side])
        tasks = []
        while waiter and len(tasks) < 100000:
            data = runtime.read_anywhere(waiter, at["waiter.next"] + 8)
            if data is None or len(data) < at["waiter.next"] + 8:
                break
            tasks.append(struct.unpack_from("=Q", data, at["waiter.task"])[0])
            waiter = struct.unpack_from("=Q", data, at["waiter.next"])[0]
        found[side[:-1]] = tasks
    return found


def channels_of_select(runtime, task):
    """The channels on whose lists the task is, among those that some task's record names."""
    named = {t.waits_on for t in runtime.tasks() if t.status == "waiting" and t.waits_on and is_channel_wait(t)}
    return sorted(c for c in named if any(task.address in w for w in channel_waiters(runtime, c).values()))


def object_state(runtime, task, target):
    at, number = runtime.objects, runtime.memory.number
    if is_channel_wait(task):
        if "nil chan" in task.reason:
            return "nothing ever comes from or goes to a nil channel"
        kind = "closed" if number(target + at["chan.closed"], 1) else "open"
        return (f"channel, {kind}, {number(target + at['chan.count'])} of {number(target + at['chan.capacity'])} "
                "buffered")
    if task.reason == "sync.Mutex.Lock" and "mutex.state" in at:
        state = number_in_stack(runtime, target + at["mutex.state"], 8)
        return "mutex, locked" if state & at["mutex.locked_bit"] else "mutex, not locked: being handed over"
    if task.reason == "sync.WaitGroup.Wait" and "wait_group.count" in at:
        return f"wait group, {number_in_stack(runtime, target + at['wait_group.count'], 8)} to go"
    return ""


def number_in_stack(runtime, address, size):
    data = runtime.read_anywhere(address, size)
    return int.from_bytes(data or b"", "little")


class ThreadsCommand(gdb.Command):
    """Threads of the runtime: which processor each holds and which task it executes: weft threads"""

    def __init__(self):
        super().__init__("weft threads", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        runtime = Runtime()
        by_address = {t.address: t for t in runtime.tasks()}
        gdb.write("THREAD  TID       PROCESSOR  ROLE        TASK\n")
        for t in sorted(runtime.threads(), key=lambda t: t.tid):
            thread = gdb_thread(t.tid)
            task = by_address.get(t.task)
            doing = f"{title(task)} [{task.state}]" if task is not None and not task.foreign else \
                "looking for work" if t.spinning else ""
            gdb.write(f"{thread.num if thread else '-':<6}  {t.tid:<8}  "
                      f"{'-' if t.processor is None else t.processor:<9}  {t.role:<10}  {doing}".rstrip() + "\n")


class GcoreCommand(gdb.Command):
    """Save a core file of the running program that has the stacks of all its tasks: weft gcore [FILE]

generate-core-file alone leaves them out, as the kernel would."""

    def __init__(self):
        super().__init__("weft gcore", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        runtime = Runtime()
        if runtime.in_core:
            raise gdb.GdbError("this is a core file already")
        file = argument.strip() or f"core.{gdb.selected_inferior().pid}"
        gdb.execute(f"generate-core-file {file}", to_string=True)
        pieces = [piece for task in runtime.tasks() if task.stack for piece in [runtime.live_stack(task, 1 << 30)]
                  if piece[1]]
        append_to_core(file, pieces)
        gdb.write(f"Saved {file} with the stacks of {len(pieces)} tasks\n")


def append_to_core(file, pieces):
    """Adds [(address, bytes)] to an ELF core file as segments: behind its end, and a new table of segments last.

The program itself does nothing for it, because a call into it would have to write registers."""
    with open(file, "r+b") as core:
        header = bytearray(core.read(64))
        table, = struct.unpack_from("=Q", header, 32)
        entry_size, count = struct.unpack_from("=HH", header, 54)
        most = 0xffff - 1 - count  # more would need another way of counting (PN_XNUM)
        if len(pieces) > most:
            gdb.write(f"only {most} of {len(pieces)} stacks fit\n")
            pieces = pieces[:most]
        core.seek(table)
        segments = core.read(entry_size * count)
        end = core.seek(0, 2)
        for address, data in pieces:
            segments += struct.pack("=IIQQQQQQ", 1, 6, end, address, 0, len(data), len(data), 1)
            core.write(data)
            end += len(data)
        core.write(segments)
        struct.pack_into("=Q", header, 32, end)
        struct.pack_into("=H", header, 56, count + len(pieces))
        core.seek(0)
        core.write(header)


def number_of(text):
    try:
        return int(text, 0)
    except ValueError:
        raise gdb.GdbError(f"'{text}' is no task id") from None


gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)
for command in (WeftCommand, TasksCommand, BacktraceCommand, TaskCommand, WhyCommand, ThreadsCommand, GcoreCommand):
    command()
