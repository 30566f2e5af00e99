#pragma once
#include "profiler/profile_registry.h"

namespace weft::prof {

// "block": where tasks and threads waited for channels, locks and each other.
profile_source& block_profile();

// "mutex": whose holding of locks made others wait.
profile_source& mutex_profile();

}  // namespace weft::prof
