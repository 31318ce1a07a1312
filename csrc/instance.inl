#include "generic.h"

#include "exec.inl"
#include "thread.inl"

#include "flow.inl"
#include "back.inl"
#include "sens.inl"
#include "rows.inl"
#include "march.inl"
#include "chunk.inl"
#include "events.inl"

#include "generic_end.h"
