package enrol

var ParseList = parseList
