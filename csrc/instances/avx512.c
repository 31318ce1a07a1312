#define PN_VBYTES 64
#define PN_INSTANCE pn_instance_avx512
#include "instances/instances.inl"
