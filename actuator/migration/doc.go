// Package migration is the life of one live migration, as two pure machines: the
// source's, which leads the move ([Next]), and the destination's, which answers
// ([Answer], [Tend]). It touches nothing and knows no clock.
//
// What comes in: what was seen on both hosts ([Observation]), how the last act
// ended ([Did]), what the destination's journal holds ([Peer]), and the time. What
// goes out: the next acts, in order, each already judged by every [Guard], and a
// typed reason.
//
// What is promised, whatever is lost, doubled, reordered or killed in between:
//
//   - Never two running copies. The move is a two-phase commit: the source writes
//     "handed over" durably before it asks for Finish; the destination writes its
//     "resume intent" durably before Resume, and from then on it alone may run; the
//     source takes the VM back only after the destination has durably recorded that
//     it released the epoch and its copy is gone.
//   - Never none. A copy is destroyed only while the other is seen running and shows
//     signs of life; a destination gives its copy up only while the source still
//     has one.
//   - No outcome is judged from one host. Without an answer the move holds, is
//     reported UNKNOWN once, and stays so until evidence or an operator ends it. No
//     timer resolves it.
//   - Success means: runs at the destination, gone at the source, alive.
//
// The rules that forbid are data: [Rules] holds them by name, so that a test or a
// simulation can leave one out and see what it was good for. The proposals in
// source.go are deliberately naive; the guards make them safe.
//
// Sources: the phases are libvirt's client-managed migration, protocol version 3,
// with VIR_MIGRATE_PAUSED (https://libvirt.org/migration.html and
// virDomainMigrateVersion3Full); the commit is Gray's two-phase commit (1978) with
// presumed hold instead of presumed abort.
package migration
