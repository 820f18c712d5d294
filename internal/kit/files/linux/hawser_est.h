/* Enrolment and renewal over EST (RFC 7030) with OpenSSL 3. */
#ifndef HAWSER_EST_H
#define HAWSER_EST_H

#include <stddef.h>

enum {
    HAWSER_OK = 0,
    HAWSER_E_REFUSED = 1, /* the server said no: trying the same again changes nothing */
    HAWSER_E_LATER = 2,   /* the server is busy: come again after retry_after_s */
    HAWSER_E_SERVER = 3,  /* cannot be reached, is not ours, or answers with something else */
    HAWSER_E_LOCAL = 4,   /* our own trouble: memory, disk, random numbers */
};

typedef struct {
    int status;             /* of HTTP; 0: there was no answer */
    unsigned retry_after_s; /* at most an hour */
    char said[160];         /* what the server says, printable; fit for a log */
} hawser_answer;

/* Makes a new key, has it certified with the unit's enrolment code, and writes
 * both as PEM to the file identity, which only its owner can read. */
int hawser_enrol(const char *serial, const char *code, const char *identity, hawser_answer *a);

/* The same with the certificate in the file old, which stays good until the new
 * one was used once. */
int hawser_renew(const char *old, const char *identity, hawser_answer *a);

/* Whether two thirds of the certificate's life are over: 1, 0, or -1 when it
 * cannot be read. */
int hawser_renewal_due(const char *identity);

#endif
