// Package deploy holds what puts Foreshift on machines: systemd units, Debian
// packages (nfpm), an image and a compose file, and the script that makes the keys of
// a fleet. It has no code of its own; its tests install, start and remove what it
// holds.
package deploy
