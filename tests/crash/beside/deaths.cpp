// Deaths in C++.
#include <exception>

namespace {

struct Base {
    Base() { call(); }
    virtual ~Base() = default;
    void call() { pure(); }
    virtual void pure() = 0;
};

struct Derived : Base {
    void pure() override {}
};

} // namespace

extern "C" void terminate_by_exception()
{
    throw 1;
}

extern "C" void terminate()
{
    std::terminate();
}

extern "C" void leave_noexcept() noexcept
{
    throw 1;
}

extern "C" void call_pure_virtual()
{
    Derived derived;
}
