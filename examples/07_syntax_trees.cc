// A compiler's kind of work: syntax trees on the collected heap. Tasks make random programs, print
// and parse them again, share equal subtrees, fold constants, and compare what the tree computes
// before and after. Nothing is ever freed by hand, and trees of different stages share their parts.
//
//   07_syntax_trees [programs, 2000] [tasks, 4]
//
// The exit status is 1 if a program computed something else after it had been folded.
#include <weft/gc/gc.h>
#include <weft/weft.h>

#include <array>
#include <atomic>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

namespace gc = weft::gc;

// op: 'n' a number, 'x' the variable, or + - *.
struct expression {
  char op = 'n';
  uint32_t value = 0;
  gc::ref<expression> left, right;
};

expression* number(uint32_t value) {
  auto* e = gc::make<expression>();
  e->value = value;
  return e;
}

expression* node(char op, expression* left, expression* right) {
  auto* e = gc::make<expression>();
  e->op = op;
  e->left = left;
  e->right = right;
  return e;
}

class generator {
 public:
  explicit generator(uint64_t seed) : random_(seed * 2 + 1) {}
  expression* make(int depth) {
    const uint64_t r = next();
    if (depth == 0 || r % 16 == 0)
      return r % 3 == 0 ? node('x', nullptr, nullptr) : number(static_cast<uint32_t>(r >> 8) % 100);
    expression* left = make(depth - 1);  // found on this stack while the other side is made
    return node("+-*"[(r >> 8) % 3], left, make(depth - 1));
  }
  uint64_t next() {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    return random_ >> 24;
  }

 private:
  uint64_t random_;
};

void print(const expression* e, std::string& out) {
  if (e->op == 'n') {
    out += std::to_string(e->value);
  } else if (e->op == 'x') {
    out += 'x';
  } else {
    out += '(';
    print(e->left, out);
    out += e->op;
    print(e->right, out);
    out += ')';
  }
}

expression* parse(const char*& at) {
  if (*at == 'x') {
    ++at;
    return node('x', nullptr, nullptr);
  }
  if (*at != '(') {
    uint32_t value = 0;
    while (std::isdigit(static_cast<unsigned char>(*at)) != 0)
      value = value * 10 + static_cast<uint32_t>(*at++ - '0');
    return number(value);
  }
  ++at;
  expression* left = parse(at);
  const char op = *at++;
  expression* right = parse(at);
  ++at;
  return node(op, left, right);
}

uint32_t compute(char op, uint32_t a, uint32_t b) {
  return op == '+' ? a + b : op == '-' ? a - b : a * b;
}

uint32_t value_of(const expression* e, uint32_t x) {
  if (e->op == 'n') return e->value;
  if (e->op == 'x') return x;
  return compute(e->op, value_of(e->left, x), value_of(e->right, x));
}

// A new tree without what can be computed now. What does not change is shared with the old one.
expression* folded(expression* e) {
  if (e->left == nullptr) return e;
  expression* left = folded(e->left);
  expression* right = folded(e->right);
  if (left->op == 'n' && right->op == 'n') return number(compute(e->op, left->value, right->value));
  if (e->op == '*' && (left->op == 'n' || right->op == 'n')) {
    expression* constant = left->op == 'n' ? left : right;
    if (constant->value == 0) return constant;
    if (constant->value == 1) return constant == left ? right : left;
  }
  if (left == e->left && right == e->right) return e;
  return node(e->op, left, right);
}

uint64_t argument(int argc, char** argv, int i, uint64_t otherwise) {
  if (i >= argc) return otherwise;
  char* end = nullptr;
  const uint64_t n = std::strtoull(argv[i], &end, 10);
  if (*end != 0 || n == 0) {
    std::fprintf(stderr, "usage: 07_syntax_trees [programs] [tasks]; not \"%s\"\n", argv[i]);
    std::exit(2);
  }
  return n;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t programs = argument(argc, argv, 1, 2000);
  const uint64_t tasks = argument(argc, argv, 2, 4);
  std::atomic<uint64_t> wrong{0}, characters{0};
  weft::run([&] {
    std::vector<weft::join_handle<void>> compilers;
    for (uint64_t t = 0; t < tasks; ++t) {
      compilers.push_back(weft::spawn([&, t] {
        // The last programs stay, as a compiler's modules would.
        std::array<gc::ref<expression>, 16> modules;
        for (uint64_t i = t; i < programs; i += tasks) {
          expression* made = generator(i + 1).make(10);
          std::string text;
          print(made, text);
          characters.fetch_add(text.size());
          const char* at = text.c_str();
          expression* parsed = parse(at);
          expression* small = folded(parsed);
          for (uint32_t x : {0u, 1u, 7u, 0xffffffffu}) {
            if (value_of(made, x) != value_of(small, x)) wrong.fetch_add(1);
          }
          modules[i / tasks % modules.size()] = small;
        }
      }));
    }
    for (auto& c : compilers) c.join();
    const gc::heap_stats s = gc::stats();
    std::printf(
        "%llu programs of %llu characters; %llu objects, %llu cycles, %.2f ms in pauses; "
        "%llu wrong\n",
        static_cast<unsigned long long>(programs),
        static_cast<unsigned long long>(characters.load()),
        static_cast<unsigned long long>(s.allocated_objects),
        static_cast<unsigned long long>(s.cycles), static_cast<double>(s.pause_total_ns) / 1e6,
        static_cast<unsigned long long>(wrong.load()));
  });
  return wrong == 0 ? 0 : 1;
}
