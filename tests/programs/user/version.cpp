#include <ondat_telemetry.h>

#include <iostream>
#include <memory>

int main()
{
    std::unique_ptr<ondat_telemetry_config, void (*)(ondat_telemetry_config *)> config(ondat_telemetry_config_new(),
                                                                                      ondat_telemetry_config_free);
    std::cout << ondat_telemetry_version() << '\n';
    return config ? 0 : 1;
}
