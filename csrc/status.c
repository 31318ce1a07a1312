#include "pynode.h"

const char *pn_status_name(pn_status s) {
    static const char *const names[] = {
#define PN_STATUS(name, exception, message) #name,
#include "status.def"
    };
    return (unsigned)s < PN_N_STATUS ? names[s] : "UNKNOWN";
}

const char *pn_status_message(pn_status s) {
    static const char *const messages[] = {
#define PN_STATUS(name, exception, message) message,
#include "status.def"
    };
    return (unsigned)s < PN_N_STATUS ? messages[s] : "unknown status";
}
