#include "textflag.h"

// func int80(number, a1, a2, a3, a4, a5, a6 uintptr) uintptr
TEXT ·int80(SB), NOSPLIT, $0-64
	MOVQ number+0(FP), AX
	MOVQ a1+8(FP), BX
	MOVQ a2+16(FP), CX
	MOVQ a3+24(FP), DX
	MOVQ a4+32(FP), SI
	MOVQ a5+40(FP), DI
	MOVQ BP, R12 // which the kernel keeps, as all from R12 on
	MOVQ a6+48(FP), BP
	INT  $0x80
	MOVQ R12, BP
	MOVQ AX, ret+56(FP)
	RET
