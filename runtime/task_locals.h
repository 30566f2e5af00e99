#pragma once

namespace weft::detail {

// Destroys the calling task's task-locals. Outside critical sections: destructors may wait.
void destroy_task_locals() noexcept;

}  // namespace weft::detail
