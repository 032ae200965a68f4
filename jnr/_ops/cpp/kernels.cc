// All kernels, for any processor of the architecture; kernels_v3.cc includes this file for AVX2. See variants.h.
#if !defined(JNR_VARIANT)
#define JNR_VARIANT(name) name##_any
#endif

#include "../barycentrics/kernels.inc"
#include "../boundary/kernels.inc"
#include "../edge_sweep/kernels.inc"
#include "../gather/kernels.inc"
#include "../lighting/kernels.inc"
#include "../normals/kernels.inc"
#include "../rasterize/kernels.inc"
#include "../texture/kernels.inc"
#include "vertices.inc"
