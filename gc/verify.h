#pragma once
// The verifier: with the world stopped after marking, goes over the whole heap once more and ends
// the process if marking has left something out, with the types on the way to it.
namespace weft::gc {

// World stopped, marking has ended, nothing has been swept.
void verify_marks() noexcept;

}  // namespace weft::gc
