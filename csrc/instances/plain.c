#define PN_VBYTES 8
#define PN_INSTANCE pn_instance_plain
#include "instances/instances.inl"
