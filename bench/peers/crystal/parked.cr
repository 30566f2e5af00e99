# Rows about fibers that wait: their memory, and how punctually sleepers wake. Read beside
# bench/weft_parked_rows.cc.

# VmRSS + VmPTE of this process in bytes.
def resident_bytes
  File.read_lines("/proc/self/status").sum(0_i64) do |line|
    line.starts_with?("VmRSS:") || line.starts_with?("VmPTE:") ? line.split[1].to_i64 * 1024 : 0_i64
  end
end

def run_idle(c : Config)
  c.require_fibers_at_once
  gate = Channel(Nil).new
  arrived = Atomic(Int64).new(0_i64)
  done = WaitGroup.new(c.n)
  before = resident_bytes
  c.n.times do
    spawn do
      arrived.add(1)
      gate.receive?
      done.done
    end
  end
  while arrived.get != c.n
    sleep 1.millisecond
  end
  sleep 100.milliseconds
  after = resident_bytes
  c.print_prefix
  printf "bytes_per_task=%.0f\n", (after - before) / c.n
  gate.close
  done.wait
end

def run_sleepers(c : Config)
  c.require_fibers_at_once
  late = Array(Float64).new(c.n.to_i, 0.0)
  done = WaitGroup.new(c.n)
  c.n.times do |i|
    spawn do
      d = (100 + i * 7919 % 900).milliseconds
      start = Time.monotonic
      sleep d
      late[i] = (Time.monotonic - start - d).total_milliseconds
      done.done
    end
  end
  done.wait
  late.sort!
  # libevent's clock has coarser ticks than ours; more than that is a fault, not a figure.
  c.fail("a fiber woke #{-late[0]} ms before its time") if late[0] < -10
  c.print_prefix
  printf "late_p50_ms=%.3f late_p99_ms=%.3f late_max_ms=%.3f\n", late[late.size // 2],
    late[late.size * 99 // 100], late[-1]
end

def run_sleep_all(c : Config)
  c.require_fibers_at_once
  done = WaitGroup.new(c.n)
  start = Time.monotonic
  c.n.times do
    spawn do
      sleep 1.second
      done.done
    end
  end
  done.wait
  c.print_ns_per_op(start, c.n)
end
