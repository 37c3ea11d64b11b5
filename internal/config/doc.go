// Package config reads the one file that an installed Foreshift is set up by.
//
// What comes in: a TOML file and the commands with their flags. A section [NAME]
// holds settings of the command NAME, the section [fleet] those of all commands;
// a setting is a flag without its dashes. What goes out: flags that are set, and
// every fault at once, each with its section, setting, value and what is wanted.
//
// What is promised: a flag on the command line goes before the file, the file before
// the default; a section or setting that no command has is a fault, with the nearest
// name that one has; no setting holds a secret, keys are files of their own.
//
// Why flags: what can be set is told in one place, help, file and reference agree,
// and a new flag is a new setting.
package config
