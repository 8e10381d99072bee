#include <ondat_telemetry.h>
#include <stdio.h>

int main(void)
{
    return puts(ondat_telemetry_version()) == EOF;
}
