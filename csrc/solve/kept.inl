/* Forward halves that wait for their way back, see pn_tapes: what a thread works with stays, one for each chunk. A later solve of the
   same sizes finds its memory there. */

static pn_status FN(keep_chunk)(pn_shared *s, int main, int64_t chunk) {
    void **place = &s->problem->tapes->work[chunk];
    FN(work) *W = *place ? *place : FN(new_work)();
    if (!(*place = W)) return PN_MEMORY;
    pn_status st = FN(set_up)(W, s, main);
    if (st != PN_OK) return st;
    FN(take_chunk)(W, chunk * s->chunk, FN(chunk_size)(W, chunk));
    return FN(run_forward)(W);
}

static pn_status FN(chunk_back)(pn_shared *s, int main, int64_t chunk) {
    FN(work) *W = s->problem->tapes->work[chunk];
    W->s = s, W->P = s->problem, W->main = main;
    W->last_poll = FN(clock)();
    FN(begin_gradient)(W, s->task_grad ? s->task_grad + chunk * s->p : NULL);
    pn_status st = FN(run_backward)(W);
    FN(end_gradient)(W);
    return st;
}

/* A task is a chunk here. */
static pn_status FN(run_kept)(pn_shared *s, int main, int64_t task) {
    return s->problem->back ? FN(chunk_back)(s, main, task) : FN(keep_chunk)(s, main, task);
}

static pn_status FN(work_on)(pn_shared *s, int main) {
    const int kept = s->problem->tapes != NULL;
    FN(work) *W = kept ? NULL : FN(new_work)();
    pn_status st = kept ? PN_OK : W ? FN(set_up)(W, s, main) : PN_MEMORY;
    while (st == PN_OK) {
        int64_t task = (int64_t)atomic_fetch_add(&s->next_task, 1);
        if (task >= s->n_tasks) break;
        st = kept ? FN(run_kept)(s, main, task) : FN(run_task)(W, task);
    }
    if (st != PN_OK) {
        int none = 0;
        atomic_compare_exchange_strong(&s->stop, &none, (int)st);
    }
    FN(discard)(W);
    return st;
}
