"""A team's database: the Optuna studies of many people's runs, copied into one."""
