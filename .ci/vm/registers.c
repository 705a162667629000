// Preloaded into User Mode Linux on a processor with tiles (AMX).
//
// The host sets a traced process's extended registers (PTRACE_SETREGSET, NT_X86_XSTATE) only from as many
// bytes as the processor has for them. User Mode Linux keeps room for a processor without tiles: what it
// hands over is completed with zeros here, which is how the host wants tiles that nobody uses.
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PEEKTEXT = 1, PEEKUSER = 3, GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, ROOM = 64 << 10 };

static long raw(long request, long pid, long address, void *data)
{
	return syscall(SYS_ptrace, request, pid, address, data);
}

static long set_registers(long pid, const struct iovec *given)
{
	static __thread char all[ROOM];
	struct iovec whole = { all, sizeof all };
	if (raw(GETREGSET, pid, XSTATE, &whole) < 0 || whole.iov_len <= given->iov_len)
		return raw(SETREGSET, pid, XSTATE, (void *)given);
	memset(all, 0, whole.iov_len);
	memcpy(all, given->iov_base, given->iov_len);
	return raw(SETREGSET, pid, XSTATE, &whole);
}

long ptrace(int request, ...)
{
	va_list words;
	va_start(words, request);
	const long pid = va_arg(words, int), address = va_arg(words, long);
	void *const data = va_arg(words, void *);
	va_end(words);
	if (request == SETREGSET && address == XSTATE)
		return set_registers(pid, data);
	if (request < PEEKTEXT || request > PEEKUSER)
		return raw(request, pid, address, data);
	// The kernel writes the word, the library returns it.
	long word;
	if (raw(request, pid, address, &word) < 0)
		return -1;
	errno = 0;
	return word;
}
