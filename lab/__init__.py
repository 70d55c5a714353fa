"""A real Xen on a machine without Xen: hypervisor and Debian dom0 under QEMU's emulation (docs/lab.md)."""
