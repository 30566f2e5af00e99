# void weft_switch(void** save_sp [rdi], void* to_sp [rsi])
# Saved frame, from the stack pointer up: r15 r14 r13 r12 rbx rbp rip. context.cc (registers_of) and the
# debugger scripts rely on this layout.
    .text
    .globl  weft_switch
    .hidden weft_switch
    .type   weft_switch, @function
    .p2align 5
weft_switch:
    .cfi_startproc
    pushq   %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq   %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq   %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq   %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq   %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq   %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    movq    %rsp, (%rdi)
    # Both stacks have the same layout at this point, so the CFI holds across the exchange.
    movq    %rsi, %rsp
    popq    %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq    %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq    %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq    %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq    %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq    %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    # The predictor expects the one caller's address here, and that is where every context goes on.
    ret
    .cfi_endproc
    .size   weft_switch, .-weft_switch

# First instruction of every context. The undefined rip and the zero rbp end CFI and frame-pointer
# unwinders alike. rsp is 16-byte aligned here and must be so before the call.
    .globl  weft_context_entry
    .hidden weft_context_entry
    .type   weft_context_entry, @function
    .p2align 4
weft_context_entry:
    .cfi_startproc
    .cfi_undefined %rip
    xorl    %ebp, %ebp
    call    weft_task_main
    hlt
    .cfi_endproc
    .size   weft_context_entry, .-weft_context_entry

    .section .note.GNU-stack, "", @progbits
