/* Includes PN_TESTED, a file of tests, for each precision with one lane and with a block, as instances/instances.inl does for the core. */
#define PN_F32 0
#define PN_VECTORS 0
#include PN_TESTED
#define PN_F32 0
#define PN_VECTORS 2
#include PN_TESTED
#define PN_F32 1
#define PN_VECTORS 0
#include PN_TESTED
#define PN_F32 1
#define PN_VECTORS 2
#include PN_TESTED
