# Rows about switching, spawning, channels and mutexes. Read beside bench/weft_sched_rows.cc: the two
# files follow each other function by function.

def run_switch(c : Config)
  each = c.n // 2
  done = WaitGroup.new(2)
  start = Time.monotonic
  2.times do
    spawn do
      each.times { Fiber.yield }
      done.done
    end
  end
  done.wait
  c.print_ns_per_op(start, each * 2)
end

def run_pingpong(c : Config)
  ping, pong = Channel(Int64).new, Channel(Int64).new
  spawn do
    while v = ping.receive?
      pong.send(v)
    end
  end
  start = Time.monotonic
  c.n.times do |i|
    ping.send(i)
    c.fail("a value was lost") unless pong.receive == i
  end
  c.print_ns_per_op(start, c.n)
  ping.close
end

def run_spawn(c : Config)
  done = Channel(Nil).new(1) # the library's way to wait for one fiber
  start = Time.monotonic
  c.n.times do
    spawn { done.send(nil) }
    done.receive
  end
  c.print_ns_per_op(start, c.n)
end

def run_spawn_all(c : Config)
  c.require_fibers_at_once
  done = WaitGroup.new(c.n)
  start = Time.monotonic
  c.n.times { spawn { done.done } }
  done.wait
  c.print_ns_per_op(start, c.n)
end

def skynet(out_to : Channel(Int64), first : Int64, size : Int64)
  return out_to.send(first) if size == 1
  from = Channel(Int64).new
  10_i64.times do |i|
    spawn { skynet(from, first + i * (size // 10), size // 10) }
  end
  sum = 0_i64
  10.times { sum += from.receive }
  out_to.send(sum)
end

def run_skynet(c : Config)
  c.require_fibers_at_once
  size = c.n
  while size > 1
    c.fail("--n=#{c.n} is not a power of ten") unless size % 10 == 0
    size //= 10
  end
  from = Channel(Int64).new
  start = Time.monotonic
  spawn { skynet(from, 0_i64, c.n) }
  sum = from.receive
  c.fail("sum is #{sum}") unless sum == c.n * (c.n - 1) // 2
  c.print_ns_per_op(start, c.n)
end

def run_chan_buffered(c : Config)
  sides = 4
  each = c.n // sides
  values = Channel(Int64).new(128)
  producers, consumers = WaitGroup.new(sides), WaitGroup.new(sides)
  total = Atomic(Int64).new(0_i64)
  start = Time.monotonic
  sides.times do
    spawn do
      each.times { |k| values.send(k) }
      producers.done
    end
    spawn do
      received = 0_i64
      while values.receive?
        received += 1
      end
      total.add(received)
      consumers.done
    end
  end
  producers.wait
  values.close
  consumers.wait
  c.fail("received #{total.get}") unless total.get == each * sides
  c.print_ns_per_op(start, total.get)
end

def run_select4(c : Config)
  each = c.n // 4
  from = StaticArray(Channel(Int64), 4).new { Channel(Int64).new }
  start = Time.monotonic
  4.times do |i|
    spawn { each.times { from[i].send(1_i64) } }
  end
  total = 0_i64
  (each * 4).times do
    select
    when v = from[0].receive
      total += v
    when v = from[1].receive
      total += v
    when v = from[2].receive
      total += v
    when v = from[3].receive
      total += v
    end
  end
  c.fail("received #{total}") unless total == each * 4
  c.print_ns_per_op(start, total)
end

def run_mutex_uncontended(c : Config)
  mutex = Mutex.new
  counter = 0_i64
  start = Time.monotonic
  c.n.times do
    mutex.synchronize { counter += 1 }
  end
  c.print_ns_per_op(start, counter)
end

def run_mutex8(c : Config)
  tasks = 8
  each = c.n // tasks
  mutex = Mutex.new
  done = WaitGroup.new(tasks)
  counter = 0_i64
  start = Time.monotonic
  tasks.times do
    spawn do
      each.times do
        mutex.synchronize { counter += 1 }
      end
      done.done
    end
  end
  done.wait
  c.fail("counter is #{counter}") unless counter == each * tasks
  c.print_ns_per_op(start, counter)
end
