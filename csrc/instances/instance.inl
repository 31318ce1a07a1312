#include "instances/generic.h"

#include "program/exec.inl"
#include "solve/thread.inl"

#include "forward/attempt.inl"
#include "reverse/step.inl"
#include "reverse/sensitivities.inl"
#include "forward/jumps.inl"
#include "forward/march.inl"
#include "solve/chunk.inl"
#include "events/events.inl"

#include "instances/generic_end.h"
