#define PN_VBYTES 16
#define PN_INSTANCE pn_instance_baseline
#include "instances/instances.inl"
