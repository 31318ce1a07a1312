/* One instance: everything that depends on the precision and the number of lanes, from the kernels up to a thread. Each file
   uses those before it only. */
#include "instances/generic.h"

#if !PN_BLOCK /* which comes first, for all of its precision */
#include "kernels/operations.inl"
#include "loss/samples.inl"
#include "method/table.inl"
#endif
#include "kernels/elementwise.inl"
#include "kernels/lu.inl"
#include "kernels/sparse.inl"
#include "kernels/matvec.inl"
#include "program/exec.inl"
#include "program/files.inl"
#include "program/own.inl"
#include "program/evaluate.inl"

#include "solve/state.inl"
#include "solve/interrupts.inl"
#include "program/part.inl"

#include "method/sums.inl"
#include "method/control.inl"
#include "forward/inputs.inl"
#include "forward/stages.inl"
#include "forward/plan.inl"
#include "forward/end.inl"
#include "forward/save.inl"
#include "forward/jumps.inl"

#include "loss/loss.inl"
#include "loss/program.inl"

#include "reverse/stages.inl"
#include "reverse/sensitivities.inl"
#include "forward/quadrature.inl"
#include "forward/switch.inl"
#include "forward/start.inl"
#include "events/windows.inl"
#include "events/watch.inl"
#include "events/crossings.inl"
#include "events/events.inl"
#include "reverse/shots.inl"
#include "forward/keep.inl"
#include "forward/attempt.inl"
#include "forward/march.inl"
#include "forward/run.inl"

#include "reverse/jumps.inl"
#include "reverse/saves.inl"
#include "reverse/step.inl"
#include "reverse/reversible.inl"
#include "reverse/run.inl"

#include "solve/chunk.inl"
#include "solve/screen.inl"
#include "solve/carve.inl"
#include "solve/thread.inl"
#include "solve/kept.inl"

#include "instances/generic_end.h"
