# bench_crystal ROW [--workers=N] [--n=N] [--stack=default|compact]: the rows of weft_bench on
# Crystal's fibers. Prints one line of name=value figures; exit code 4 means that Crystal cannot
# run the row, and standard error says why.
#
# One worker only. Several would be Crystal's multi-threading preview (-Dpreview_mt), which ties every
# fiber to a thread and wakes another thread through a pipe: 100 µs and more for each message.

require "./sched"
require "./parked"

class Config
  getter row : String
  property workers = 1_i64
  property n = 0_i64

  def initialize(@row)
  end

  # Starts a line "row=… workers=… n=… "; the caller prints its figures and the newline.
  def print_prefix
    print "row=#{row} workers=#{workers} n=#{n} "
  end

  # Prints one whole line: mean of *count* operations since *start*.
  def print_ns_per_op(start : Time::Span, count)
    elapsed = (Time.monotonic - start).total_nanoseconds
    print_prefix
    printf "ns_per_op=%.2f ms_total=%.3f\n", elapsed / count, elapsed / 1e6
  end

  # A row whose own check fails must not print a figure.
  def fail(why) : NoReturn
    STDERR.puts "bench_crystal: #{row}: #{why}"
    exit 1
  end

  # Every stack is a mapping of 8 MB with a guard page, so that n of them at once take 2n mappings.
  def require_fibers_at_once
    allowed = File.read("/proc/sys/vm/max_map_count").to_i64
    return if n * 2 + 1000 <= allowed
    STDERR.puts "#{n} fibers take #{n * 2} memory mappings, vm.max_map_count is #{allowed}"
    exit 4
  end
end

# A counter whose last `done` lets the waiter go on; Crystal 1.6 has no such type.
class WaitGroup
  def initialize(count)
    @count = Atomic(Int64).new(count.to_i64)
    @finished = Channel(Nil).new(1)
  end

  def done
    @finished.send(nil) if @count.sub(1) == 1
  end

  # To be called once.
  def wait
    @finished.receive
  end
end

def usage(why) : NoReturn
  STDERR.puts "bench_crystal: #{why}"
  STDERR.puts "usage: bench_crystal ROW [--workers=N] [--n=N] [--stack=default|compact]"
  exit 2
end

def number(word, text, lowest, highest)
  value = text.to_i64?
  usage "#{word} is not a number from #{lowest} to #{highest}" unless value && lowest <= value <= highest
  value
end

def main
  c = Config.new(ARGV[0]? || usage("no row given"))
  ARGV[1..].each do |word|
    flag, _, text = word.partition('=')
    case {flag, text}
    when {"--workers", _} then c.workers = number(word, text, 1, 1024)
    when {"--n", _}       then c.n = number(word, text, 8, 1_000_000_000)
    when {"--stack", "default"}, {"--stack", "compact"}
    else usage "unexpected argument '#{word}'"
    end
  end
  if c.workers > 1
    STDERR.puts "Crystal runs its fibers on one thread"
    exit 4
  end
  default, run = case c.row
                 when "switch"            then {5_000_000, ->run_switch(Config)}
                 when "pingpong"          then {1_000_000, ->run_pingpong(Config)}
                 when "spawn"             then {1_000_000, ->run_spawn(Config)}
                 when "spawn_all"         then {1_000_000, ->run_spawn_all(Config)}
                 when "skynet"            then {1_000_000, ->run_skynet(Config)}
                 when "chan_buffered"     then {4_000_000, ->run_chan_buffered(Config)}
                 when "select4"           then {1_000_000, ->run_select4(Config)}
                 when "mutex_uncontended" then {20_000_000, ->run_mutex_uncontended(Config)}
                 when "mutex8"            then {4_000_000, ->run_mutex8(Config)}
                 when "idle"              then {100_000, ->run_idle(Config)}
                 when "sleepers"          then {100_000, ->run_sleepers(Config)}
                 when "sleep_all"         then {1_000_000, ->run_sleep_all(Config)}
                 else
                   # A row of weft's that has no counterpart here.
                   STDERR.puts "no row #{c.row} on Crystal"
                   exit 4
                 end
  c.n = default.to_i64 if c.n == 0
  run.call(c)
end

main
