// SPDX-License-Identifier: MIT
// The namespace of everything that is compiled once for each instruction set.
//
// Registers of 16 bytes exist in every build, and functions of them would have the same name in each: the linker would
// keep one copy, which may use instructions that the processor lacks. So types of registers, and all that is made of
// them, lie in an inline namespace that is named after the build's widest register. A build with further instructions
// for registers of the same size names its own namespace before it includes anything.
#pragma once

#if !defined(FREEWIRE_VECTOR_BYTES)
#define FREEWIRE_VECTOR_BYTES 16
#endif
#if !defined(FREEWIRE_REGISTERS)
#define FREEWIRE_JOINED(a, b) a##b
#define FREEWIRE_NAMED_AFTER(bytes) FREEWIRE_JOINED(registers_, bytes)
#define FREEWIRE_REGISTERS FREEWIRE_NAMED_AFTER(FREEWIRE_VECTOR_BYTES)
#endif
