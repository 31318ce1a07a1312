#define PN_VBYTES 32
#define PN_INSTANCE pn_instance_avx2
#include "instances/instances.inl"
