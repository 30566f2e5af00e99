#pragma once
#include <weft/run.h>

namespace weft::sched {
struct directed_world;
}

namespace weft::detail {

// What weft::run does; with a world, in the mode of scheduler/directed.h.
void run_world(const options& o, const body_ops& ops, void* callable, sched::directed_world* world);

}  // namespace weft::detail
