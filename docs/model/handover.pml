/* One VM, two hosts, two moves, and everything that may go wrong between them.
 *
 * What it says: the client-managed, paused handover of docs/adr/0001, as the two
 * actuators do it: a source that journals "handed over" before it asks for Finish,
 * a destination that journals its fence, its resume intent and its release. Requests
 * may be lost, come late or twice, replies may be lost; an actuator may die between
 * any two steps and starts again from its journal; libvirt and QEMU may die under it.
 * When the first move has ended there is a second, back again or once more the same
 * way, while requests of the first may still be under way.
 *
 * What is promised, in every reachable state: at most one copy runs, and at least one
 * whole copy is there. When a move has ended: exactly one copy runs, where it should.
 *
 * What is left out: time (a look may be arbitrarily old, a request arbitrarily late),
 * content (a transfer is whole or it failed), more than FAULTS faults.
 *
 * docs/model/check runs it, also with one rule left out at a time:
 *   NO_FENCE    a destination does not compare a request's epoch with its fence
 *   NO_RELEASE  a source that hears nothing takes the VM back by itself
 *   BLIND       a source drops its copy once Finish succeeded, not once the other runs
 *   PLAIN       libvirt's own handover: Finish starts the guest, no answer means failed
 * Each must then break a promise, or the model would prove nothing.
 */
#ifndef FAULTS
#define FAULTS 3
#endif

mtype:copy = { absent, incoming, whole, running };   /* whole: paused, can be run */
mtype:op   = { observe, prepare, finish, resume, release };
mtype:mark = { none, accepted, handed, succeeded, failed };

/* libvirt's truth */
mtype:copy st[2];
bool sent = false;       /* the transfer of the move under way is complete */

/* on disk, per host */
byte fence[2], prepared[2], finished[2], resumed[2], ran[2], released[2], dropped[2];
mtype:mark journal = none;   /* of the source of the move under way */

/* in memory, per host */
byte session[2];         /* epoch whose incoming guest this actuator's connection holds */

byte faults = 0;
byte source = 0;         /* host that the move under way starts at */

chan to[2]   = [0] of { mtype:op, byte };                       /* what, epoch */
chan from[2] = [0] of { bool, mtype:copy, byte, byte };         /* done, copy, released, resumed */
chan late    = [2] of { byte, mtype:op, byte };                 /* host, what, epoch: requests that lie about */

#define fault          (faults < FAULTS) -> faults++

#define IS_WHOLE(h) (st[h] == whole || st[h] == running)
inline promise() {
	assert(!(st[0] == running && st[1] == running));
	assert(IS_WHOLE(0) || IS_WHOLE(1))
}

/* The destination's side of one host. It serves one request at a time. */
proctype Destination(byte h) {
	mtype:op what; byte e; bool ok;
end:	do
	:: to[h]?what,e ->
		ok = false;
		if
		:: what == observe -> ok = true
		:: what == prepare ->
			if
			:: e >= fence[h] && released[h] < e && prepared[h] < e && st[h] == absent ->
				atomic { fence[h] = e; prepared[h] = e };
				if
				:: atomic { st[h] = incoming; session[h] = e; ok = true }
				:: atomic { fault; session[h] = 0 }          /* dies between record and act */
				fi
			:: else
			fi
		:: what == finish ->
			if
			:: finished[h] == e && released[h] < e -> ok = true
			:: finished[h] != e && e >= fence[h] && released[h] < e && prepared[h] == e && session[h] == e && sent && st[h] == incoming ->
				if
#ifdef PLAIN
				:: atomic { st[h] = running; ran[h] = e; promise() }
#else
				:: st[h] = whole
#endif
				:: atomic { fault; st[h] = absent; session[h] = 0 }   /* libvirtd dies in Finish3 */
				fi;
				if
				:: IS_WHOLE(h) -> atomic { finished[h] = e; session[h] = 0; ok = true }
				:: atomic { IS_WHOLE(h) && faults < FAULTS -> faults++; session[h] = 0; finished[h] = e }  /* dies before the record; housekeeping writes it */
				:: else
				fi
			:: else
			fi
		:: what == resume ->
			if
#ifdef NO_FENCE
			:: released[h] < e && finished[h] == e && st[h] == whole ->
#else
			:: e >= fence[h] && released[h] < e && finished[h] == e && st[h] == whole ->
#endif
				resumed[h] = e;
				if
				:: atomic { st[h] == whole -> st[h] = running; ran[h] = e; resumed[h] = e; ok = true; promise() }
				:: st[h] != whole -> skip                   /* its QEMU has died meanwhile */
				:: atomic { fault; session[h] = 0 }         /* dies between intent and act */
				fi
			:: st[h] == running && resumed[h] == e -> ok = true
			:: else
			fi
		:: what == release ->
			if
			:: resumed[h] < e && st[h] != running ->
				if
				:: fence[h] < e -> fence[h] = e
				:: else
				fi;
				if
				:: released[h] < e -> released[h] = e
				:: else
				fi;
				if
				:: prepared[h] > dropped[h] && prepared[h] > ran[h] && prepared[h] <= e && st[h] != running ->
					if
					:: atomic { st[h] = absent; session[h] = 0; dropped[h] = prepared[h]; promise() }
					:: atomic { fault; session[h] = 0 }  /* dies between record and act */
					fi
				:: else
				fi;
				ok = true
			:: else
			fi
		fi;
		from[h]!ok,st[h],released[h],resumed[h]
	/* housekeeping: carry out a resume intent, drop an orphan */
	:: atomic { resumed[h] > ran[h] && resumed[h] > released[h] && st[h] == whole ->
			st[h] = running; ran[h] = resumed[h]; promise() }
	:: atomic { st[h] == incoming && session[h] != prepared[h] && finished[h] < prepared[h] ->
			released[h] = prepared[h]; st[h] = absent; dropped[h] = prepared[h] }
	/* it dies and starts again: the connection that held the incoming guest is gone */
	:: atomic { fault; session[h] = 0 }
	od
}

/* A request: lost, late, answered, its answer lost, or done twice. */
inline ask(what) {
	ok = false;
	if
	:: to[p]!what,e -> from[p]?ok,seen,rel,res
	:: atomic { fault }
	:: atomic { nfull(late) && faults < FAULTS -> faults++; late!p,what,e }
	:: atomic { fault; to[p]!what,e } -> from[p]?_,_,_,_
	:: atomic { nfull(late) && faults < FAULTS -> faults++; late!p,what,e }; to[p]!what,e -> from[p]?ok,seen,rel,res
	fi
}

/* It dies here, or not; then it starts again from its journal, without connection. */
inline perhaps_die() {
	if
	:: skip
	:: atomic { fault; open = false; seen = incoming; rel = 0; res = 0 };
		if
		:: journal == handed -> goto forward
		:: journal == accepted -> goto back
		:: else
		fi
	fi
}

/* The source's side of one move: h -> p at epoch e. */
proctype Source(byte e; byte h) {
	byte p = 1 - h;
	bool ok, open; byte rel, res; mtype:copy seen = incoming;  /* incoming: knows nothing */

	atomic { assert(fence[h] < e); fence[h] = e; journal = accepted; source = h; sent = false };
	ask(observe);
	if
	:: ok && seen == absent && st[h] == running -> open = true
	:: else -> goto back
	fi;
	perhaps_die();
	ask(prepare);
	if
	:: ok -> skip
	:: else -> goto back
	fi;
	perhaps_die();
	if /* the transfer */
	:: atomic { st[p] == incoming && session[p] == e -> st[h] = whole; sent = true; promise() }
	:: atomic { fault };                                   /* cut, cancelled, libvirtd died: the source runs on */
		goto back
	:: !(st[p] == incoming && session[p] == e) -> goto back
	fi;
	perhaps_die();
	journal = handed;
	perhaps_die();

forward:
	do
	:: !(rel >= e && seen == absent) && !(seen == running && res >= e) ->
		if
		:: ask(finish)
		:: ask(resume)
		:: ask(observe)
		:: st[h] == whole -> ask(release)            /* the destination declines: fall back */
		fi;
#ifdef PLAIN
		if /* libvirt's own source: no good answer to Finish3 means that it failed */
		:: !ok && st[h] == whole -> atomic { st[h] = running; promise() }; goto back
		:: else
		fi;
#endif
#ifdef NO_RELEASE
		if /* "paused over there and no answer since: I take it back" */
		:: st[h] == whole && seen != running && res < e -> atomic { st[h] = running; promise() }; goto back
		:: else
		fi;
#endif
#ifdef BLIND
		if /* Finish succeeded: the source's copy is not needed any more */
		:: ok && seen == whole && rel < e -> atomic { st[h] = absent; promise() }
		:: else
		fi;
#endif
		perhaps_die()
	:: seen == running && res >= e -> goto gone
	:: rel >= e && seen == absent -> goto back
	od;

gone:	/* Confirm3 on its own connection, else destroy by the journal */
	atomic { st[h] = absent; promise() };
	journal = succeeded;
	goto over;

back:
	do
	:: !(rel >= e && seen == absent) && res < e ->
		if
		:: ask(release)
		:: ask(observe)
		fi;
		perhaps_die()
	:: res >= e && journal == handed -> goto forward
	:: rel >= e && seen == absent ->
		atomic {
			if
			:: st[h] == whole -> st[h] = running
			:: else
			fi;
			promise()
		};
		journal = failed;
		break
	od;
over:	skip
}

/* What lay about arrives. */
proctype Network() {
	byte h, e; mtype:op what;
end:	do
	:: late?h,what,e -> to[h]!what,e; from[h]?_,_,_,_
	od
}

/* libvirtd or QEMU at the destination dies under its actuator: an incoming guest is
   gone, a finished one that has not run may be. The source's paused copy is whole. */
proctype Host() {
end:	do
	:: atomic { st[1 - source] == incoming && faults < FAULTS -> faults++; st[1 - source] = absent }
	:: atomic { st[1 - source] == whole && st[source] == whole && faults < FAULTS -> faults++; st[1 - source] = absent; promise() }
	od
}

init {
	atomic {
		st[0] = running; st[1] = absent;
		run Destination(0); run Destination(1); run Network(); run Host();
		run Source(1, 0)
	};
	if
	:: atomic { journal == succeeded -> assert(st[0] == absent && st[1] == running); journal = none };
		run Source(2, 1);
		if
		:: journal == succeeded -> assert(st[0] == running && st[1] == absent)
		:: journal == failed -> assert(st[1] == running && st[0] == absent)
		fi
	:: atomic { journal == failed -> assert(st[0] == running && st[1] == absent); journal = none };
		run Source(2, 0);
		if
		:: journal == succeeded -> assert(st[0] == absent && st[1] == running)
		:: journal == failed -> assert(st[0] == running && st[1] == absent)
		fi
	fi
}
