#pragma once
// The verifier: marks again, in other bitmaps, with the world stopped, and compares. Whatever a
// cycle has not marked although it can be reached would be freed in use: that ends the process,
// with the types on the way to it.
namespace weft::gc {

// World stopped, marking has ended, nothing has been swept.
void verify_marks() noexcept;

}  // namespace weft::gc
