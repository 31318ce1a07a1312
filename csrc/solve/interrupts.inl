/* Interrupts: what ends a solve from outside. */

static double FN(clock)(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static pn_status FN(look_up)(FN(work) * W) {
    const pn_problem *P = W->P;
    if (W->main && P->poll && (P->call || W->costly || ++W->polls % 16 == 0)) {
        double now = FN(clock)();
        if (now - W->last_poll > 0.02) {
            W->last_poll = now;
            if (P->poll(P->poll_ctx)) atomic_store(&W->s->stop, PN_INTERRUPTED);
        }
    }
    return (pn_status)atomic_load_explicit(&W->s->stop, memory_order_relaxed);
}
