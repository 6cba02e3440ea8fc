// What sample.cu asks of the machine beyond fiber_shim.hpp.

static void __threadfence_system() {}
