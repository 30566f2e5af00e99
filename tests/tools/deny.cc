// deny io_uring|membarrier PROGRAM [ARG...]: runs a program where these system calls answer EPERM,
// as seccomp profiles of containers make them. What has a fallback is tested under it once more.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <iterator>

int main(int argc, char** argv) {
  unsigned first = 0, last = 0;
  if (argc > 2 && std::strcmp(argv[1], "io_uring") == 0) {
    first = SYS_io_uring_setup;
    last = SYS_io_uring_register;
  } else if (argc > 2 && std::strcmp(argv[1], "membarrier") == 0) {
    first = last = SYS_membarrier;
  } else {
    std::fprintf(stderr, "usage: deny io_uring|membarrier PROGRAM [ARG...]\n");
    return 2;
  }
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    std::perror("deny: seccomp");
    return 125;
  }
  ::execvp(argv[2], argv + 2);
  std::perror(argv[2]);
  return 126;
}
